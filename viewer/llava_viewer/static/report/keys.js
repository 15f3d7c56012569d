// Walking through the answer: play, the slider and the keys.
const play = byId("play");
const scrub = byId("scrub");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let timer = 0;

// The tokens that can be walked through: special ones only where they are shown.
const walk = () => tokenKeys.filter((key) => byId("sp-show")?.checked || !specialKeys.has(key));

function stopPlaying() {
  clearInterval(timer);
  timer = 0;
  play.textContent = "Play";
  play.setAttribute("aria-pressed", "false");
}
function togglePlaying() {
  if (timer) return stopPlaying();
  const last = walk().at(-1);
  const atEnd = () => currentTake().tokens.includes(last);
  let again = atEnd();
  play.textContent = "Stop";
  play.setAttribute("aria-pressed", "true");
  timer = setInterval(() => {
    if (again) choose(byId(walk()[0]));
    else nextToken(1);
    again = false;
    if (atEnd()) stopPlaying();
  }, 700);
}
play.addEventListener("click", togglePlaying);

scrub.addEventListener("input", () => choose(byId(walk()[+scrub.value])));
drawers.push(({ take }) => {
  const keys = walk();
  scrub.max = Math.max(0, keys.length - 1);
  scrub.value = keys.indexOf(take.token);
  scrub.setAttribute("aria-valuetext", wordOf(take.token));
});

const turn = (list, at, by) => list[(Math.max(0, at) + by + list.length) % list.length];
const nextInput = (name, by) => {
  const inputs = all(`input[name="${name}"]`);
  choose(turn(inputs, inputs.findIndex((input) => input.checked), by));
};
function nextToken(by) {
  const keys = walk();
  const from = currentTake().tokens.at(by > 0 ? -1 : 0);
  choose(byId(keys[Math.min(keys.length - 1, Math.max(0, keys.indexOf(from) + by))]));
}
// From map to map of a view: [ and ] over layers (or pairs, or heads where there is one layer at most), { and } over heads.
function nextCell(axis, by) {
  const view = currentView();
  if (view.cells === 1) return;
  if (view.pairs.length) {
    const at = view.pairs.findIndex(([layer, head]) => layer === choice.layer && head === choice.head);
    return pick(...turn([[null, null], ...view.pairs], at + 1, by));
  }
  const overLayers = axis === "layer" && view.layers.length > 1;
  const list = [null, ...(overLayers ? view.layers : view.heads)];
  if (overLayers) pick(turn(list, list.indexOf(choice.layer), by), choice.head);
  else pick(choice.layer, turn(list, list.indexOf(choice.head), by));
}

// The list at the page's end: which keys, and what they do.
byId("keys").querySelector("dl").append(...ACTS.map(([names, does]) => {
  const line = document.createElement("div");
  line.append(document.createElement("dt"), element("dd", { textContent: does }));
  for (const textContent of names) line.firstChild.append(element("kbd", { textContent }), " ");
  return line;
}));

const KEYS = {
  n: () => nextToken(1), p: () => nextToken(-1), g: togglePlaying, w: addWord, W: dropWord,
  v: () => nextInput("v", 1), V: () => nextInput("v", -1),
  m: () => nextInput("m", 1), c: () => nextInput("p", 1), s: () => nextInput("s", 1), u: () => nextInput("b", 1),
  "[": () => nextCell("layer", -1), "]": () => nextCell("layer", 1),
  "{": () => nextCell("head", -1), "}": () => nextCell("head", 1),
  a: () => byId("pin-a").click(), b: () => byId("pin-b").click(), x: () => byId("unpin").click(),
  "?": () => byId("keys").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth" }),
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !byId("keys-on").checked) return;
  if (event.target.matches("select, textarea, input:not([type=radio], [type=range], [type=checkbox])")) return;
  if (!Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});
