// What is chosen: radio buttons and pickers -> one state, kept on .desk for the style sheet and in the address.
const desk = document.querySelector(".desk");
const picked = (name) => document.querySelector(`input[name="${name}"]:checked`);
const value = (name) => picked(name).id.slice(name.length + 1);
const STATES = { m: "heat", p: "cividis", s: "token", b: all('input[name="b"]')[0].id.slice(2) };

// `phrase`: several tokens that are chosen together, the first of them by its radio button; `how` their maps become one.
const choice = { layer: null, head: null, pins: { a: null, b: null }, phrase: [], how: "mean" };
// Further state of the address, each by the part that keeps it: {write(state), read(state)}.
const stateParts = [];
const currentView = () => views.find((view) => view.key === picked("v").id);
const currentToken = () => picked("t")?.id ?? "";

// What the stage shows, as plain values: enough to find the map again.
function currentTake() {
  const token = currentToken();
  const tokens = choice.phrase.includes(token) ? choice.phrase : [token];
  return { view: currentView(), layer: choice.layer, head: choice.head, token, tokens, how: choice.how };
}

function choose(input) {
  if (!input || input.checked) return;
  input.checked = true;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

// Layer and head are kept from view to view where the view has them; the only one of its kind is always chosen.
function fitted(view, layer, head) {
  if (view.pairs.length) {
    const known = view.pairs.some(([l, h]) => l === layer && h === head);
    return known ? [layer, head] : [null, null];
  }
  const held = (list, own) => (list.length === 1 ? list[0] : list.includes(own) ? own : null);
  return [held(view.layers, layer), held(view.heads, head)];
}

function pick(layer, head) {
  [choice.layer, choice.head] = fitted(currentView(), layer, head);
  remember();
  show();
}

let chosenLabels = [];
function light() {
  chosenLabels = currentTake().tokens.flatMap((key) => all(`[for="${key}"]`, desk));
  for (const label of chosenLabels) label.classList.add("on");
}

function mark() {
  for (const name of Object.keys(STATES)) desk.dataset[name] = value(name);
  desk.dataset.v = picked("v").id;
  desk.dataset.sp = byId("sp-show")?.checked ? "show" : "";
  document.documentElement.dataset.theme = picked("theme").id.slice(3);
  for (const label of chosenLabels) label.classList.remove("on");
  light();
  [choice.layer, choice.head] = fitted(currentView(), choice.layer, choice.head);
}

// The address: #t=7&v=mean&l=12&h=3&m=heat, and what differs from the usual.
// A whole number of an address or a picker, null for none.
const number = (digits) => (/^\d+$/.test(digits) ? +digits : null);
const tokenName = (key) => key.replace(/^t/, "");
const tokensText = ({ tokens, how }) =>
  [...tokens.map(tokenName), ...(tokens.length > 1 && how === "max" ? ["max"] : [])].join(",");
// {token, tokens, how} of such a text; null where a token has no map here.
function tokensFrom(text) {
  const names = (text ?? "").split(",");
  const how = names.length > 2 && names.at(-1) === "max" ? names.pop() : "mean";
  const tokens = tokenKeys.filter((key) => names.includes(key) || names.includes(tokenName(key)));
  return tokens.length && tokens.length === names.length ? { token: tokens[0], tokens, how } : null;
}
function takeText(take) {
  return [tokensText(take), take.view.name, take.layer ?? "", take.head ?? ""].join("~");
}
function takeFrom(text) {
  if (!text) return null;
  const parts = text.split("~");
  const [head, layer] = [parts.pop(), parts.pop()];
  const [tokens, ...name] = parts;
  const view = views.find((one) => one.name === name.join("~"));
  const found = tokensFrom(tokens);
  if (!view || (!found && !view.whole)) return null;
  const [fittedLayer, fittedHead] = fitted(view, number(layer), number(head));
  return { view, ...(found ?? { token: "", tokens: [""], how: "mean" }), layer: fittedLayer, head: fittedHead };
}

function address() {
  const state = new URLSearchParams();
  if (currentToken()) state.set("t", tokensText(currentTake()));
  state.set("v", currentView().name);
  if (choice.layer !== null) state.set("l", choice.layer);
  if (choice.head !== null) state.set("h", choice.head);
  state.set("m", value("m"));
  for (const name of ["p", "s", "b"]) if (value(name) !== STATES[name]) state.set(name, value(name));
  if (byId("opacity").value !== "100") state.set("o", byId("opacity").value);
  if (choice.pins.a) state.set("pa", takeText(choice.pins.a));
  if (choice.pins.b) state.set("pb", choice.pins.b.mean ? "mean" : takeText(choice.pins.b));
  for (const part of stateParts) part.write(state);
  return "#" + state.toString().replaceAll("%2C", ",");
}

// A new address makes the browser look at the whole page again: it waits until the reader rests.
let pending = 0;
function remember() {
  clearTimeout(pending);
  pending = setTimeout(() => history.replaceState(null, "", address()), 250);
}

// What an address leaves out is as usual, so that it shows the same in a page that is open as in a fresh one.
function recall() {
  if (!opens()) {
    choice.phrase = wordKeys(currentToken());
    return;
  }
  const state = new URLSearchParams(opens().slice(1));
  const check = (input) => { if (input) input.checked = true; };
  const found = tokensFrom(state.get("t"));
  if (found) check(byId(found.token));
  [choice.phrase, choice.how] = [found?.tokens ?? [], found?.how ?? "mean"];
  const view = views.find((one) => one.name === state.get("v"));
  if (view) check(byId(view.key));
  for (const name of Object.keys(STATES)) {
    check(all(`input[name="${name}"]`).find((input) => input.id === `${name}-${state.get(name) ?? STATES[name]}`));
  }
  [choice.layer, choice.head] = fitted(currentView(), number(state.get("l")), number(state.get("h")));
  byId("opacity").value = Math.min(100, number(state.get("o")) ?? 100);
  choice.pins.a = takeFrom(state.get("pa"));
  choice.pins.b = state.get("pb") === "mean" ? { mean: true } : takeFrom(state.get("pb"));
  for (const part of stateParts) part.read(state);
}

const slotName = (view, layer, head) => {
  if (view.cells === 1) return "";
  if (layer === null && head === null) return `mean of ${view.cells}`;
  if (view.pairs.length || (layer !== null && head !== null)) return `L${layer} H${head}`;
  if (head !== null) return view.layers.length ? `H${head}, mean of ${view.layers.length} layers` : `H${head}`;
  return view.heads.length ? `L${layer}, mean of ${view.heads.length} heads` : `L${layer}`;
};
