// The stage and the card: the chosen map -> picture, legend, shares, brightest patches, warnings.
const live = byId("live");
const heads = new Map([...heldText(byId("heads")).matchAll(/<div class="k (\w+)">\n([^]*?)<\/div>/g)]
  .map(([, key, html]) => [key, html]));

// The palette that the maps of a view are drawn in.
let paletteOf = () => value("p");

function levelsOf({ values }, most, levels = new Uint8Array(values.length)) {
  // A loop: a board takes the levels of a thousand maps, and `from` calls a function for each of their patches.
  const scale = most > 0 ? 255 / most : 0;
  for (let i = 0; i < values.length; i++) levels[i] = scale * values[i] + 0.5;
  return levels;
}

// Square-root codes, as the page's own pictures hold: the filters of the stage square them.
function codesOf(map, most) {
  return Uint8Array.from(map.values, (own) => (most > 0 ? Math.round(255 * Math.sqrt(own / most)) : 0));
}

// What is shown now: {take, map, most}; most is the end of the scale.
let shown = null;
const drawers = [];
// Layers and heads, in pages that have them.
let drawLater = async () => {};
let inShares = () => value("k") === "shares";
let pointed = (numbers) => {
  const image = numbers.reduce((sum, one) => sum + one[2], 0) / numbers.length;
  return `${percent(image)} on the image${numbers.length === 1 ? `, brightest patch ${percent(numbers[0][0])}` : ""}`;
};

let asked = 0;
async function show() {
  mark();
  const turn = ++asked;
  const take = currentTake();
  stage.setAttribute("aria-busy", "true");
  if (!take.token && !take.view.whole) return;
  const { view, layer, head } = take;
  const map = await mapOfTake(take);
  const most = value("s") === "shared" ? await largest(`${view.key}~${layer}~${head}`, view, layer, head) : map.max;
  if (turn !== asked) return;
  shown = { take, map, most };
  live.setAttribute("href", pngUri(codesOf(map, most)));
  const [top] = brightest(map, 1);
  const [x, y] = corner(top.row, top.col);
  byId("peak").setAttribute("x", x);
  byId("peak").setAttribute("y", y);
  drawLegend(map, most);
  drawCard(take, map);
  for (const draw of drawers) draw(shown);
  stage.setAttribute("aria-busy", "false");
  performance.mark("stage");
  await drawLater(shown);
  ahead(take);
}

// The neighbours are decoded while the reader looks.
function ahead({ view, layer, head, tokens }) {
  const at = tokenKeys.indexOf(tokens.at(-1));
  if (view.whole || cellsOf(view, layer, head).length > 1 && view.cells > 1 && (layer !== null || head !== null)) return;
  for (const next of [tokenKeys[at + 1], tokenKeys[at - 1]]) if (next) mapOf(view, layer, head, next);
}

function drawLegend(map, most) {
  const even = evenShare(map);
  byId("most").textContent = percent(most);
  byId("even").textContent = `even spread ${percent(even)}`;
  byId("mark").setAttribute("x", `${most > 0 ? Math.min(100, Math.round((1000 * even) / most) / 10) : 0}%`);
}

function setText(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

let headShown = null;
function drawCard(take, map) {
  if (headShown !== take.token) {
    headShown = take.token;
    // The text was escaped when the page was made: parsing it here gives what a page without the script shows.
    byId("head").innerHTML = heads.get(take.token) ?? "";
  }
  drawPhrase(take);
  setText("whole", take.view.whole && `This view is one map for the whole answer: ${take.view.whole}.`);
  setText("slotname", slotName(take.view, take.layer, take.head));
  byId("warnings").replaceChildren(...warningsOf(map).map((textContent) => element("p", { className: "warn", textContent })));
  const total = map.shares.reduce((a, b) => a + b, 0) || 1;
  let until = 0;
  const bars = all("svg.share rect", desk.querySelector(".card")).reverse();
  map.shares.forEach((share, i) => {
    until += share / total;
    bars[i].setAttribute("width", `${Math.round(1000 * until) / 10}%`);
  });
  byId("parts").replaceChildren(...map.shares.flatMap((share, i) =>
    i ? [document.createElement("br"), percent(share)] : [percent(share)]));
  byId("tops").replaceChildren(...brightest(map, TOP_PATCHES).map(({ row, col, value: most }) =>
    element("li", { textContent: `${row}, ${col}\t${percent(most)}\t${timesEven(most, map)}` })));
}
