// Heads in order: those whose maps are like the one that is shown, or by what they read and how scattered it is.
const TOP_HEADS = 10;
const listBy = byId("list-by");
const partOn = (values, patches) => {
  const whole = values.reduce((sum, own) => sum + Math.abs(own), 0);
  return whole > 0 ? patches.reduce((sum, at) => sum + Math.abs(values[at]), 0) / whole : 0;
};
// By name: [the number of a map, its text, whether the least come first].
const MEASURES = {
  like: [(map) => likeness(map.values, shown.map.values), (own) => own.toFixed(2), false],
  share: [(map) => (map.view.share === false ? sumOf(map.values) : map.shares[1]),
    (own, view) => spentText(view, own), false],
  entropy: [(map) => spatialEntropy(map.values, rows, cols), (own) => (own < Infinity ? own.toFixed(2) : "flat"), true],
  often: [(map) => map.often, percent, false],
  sinks: [(map) => partOn(map.values, sinkPatches(map.view)), percent, true],
};

const criteria = (map) => ({ share: MEASURES.share[0](map), entropy: MEASURES.entropy[0](map) });
// How often each map of a view is among the first, over the answer's words.
const oftenFirst = remembered(Infinity, async (key, view) => {
  const keys = view.whole ? [""] : ordinaryKeys();
  const found = new Array(view.cells).fill(0);
  const rest = rests();
  for (const token of keys) {
    await rest();
    const maps = await cellMaps(view, allCells(view), token);
    firstAmong(maps.map(criteria), TOP_HEADS).forEach((own, cell) => { found[cell] += own / keys.length; });
  }
  return found;
});

async function drawHeadList({ take }) {
  const { view } = take;
  if (view.cells === 1) return;
  const isOld = () => shown.take !== take;
  listBy.querySelector('[value="sinks"]').disabled = !sinkPatches(view).length;
  if (listBy.selectedOptions[0].disabled) listBy.value = "like";
  const [measure, text, least] = MEASURES[listBy.value];
  const maps = await boardMaps(take);
  if (isOld()) return;
  const often = listBy.value === "often" ? await oftenFirst(view.key, view) : [];
  if (isOld() || measure !== MEASURES[listBy.value][0]) return;
  const found = maps.map((map, cell) => ({ cell, own: measure({ ...map, often: often[cell] }) }));
  found.sort((a, b) => (least ? a.own - b.own : b.own - a.own) || a.cell - b.cell);
  byId("headlist").replaceChildren(...found.slice(0, TOP_HEADS).map(({ cell, own }) => {
    const [layer, head] = cellName(view, cell);
    const button = element("button", { type: "button", onclick: () => pick(layer, head) });
    button.setAttribute("aria-pressed", layer === choice.layer && head === choice.head);
    button.append(element("bdi", { textContent: slotName(view, layer, head) }), element("b", { textContent: text(own, view) }));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}
listBy.addEventListener("change", () => drawHeadList(shown));
later.push(drawHeadList);
