// Views whose values are no shares: their own numbers, scale and palette. Only pages with such a view have this part.
//
// It changes what the parts before it do: `view.share` tells of shares, `view.signed` of values below 0, whose greys have
// 128 at zero and 1 and 255 at -/+ the maximum.
for (const view of views) {
  const { quantity, unit, signed } = byId(view.key).dataset;
  Object.assign(view, { share: quantity === undefined, quantity: quantity ?? "", unit: unit ?? "", signed: signed === "1" });
}

// A number with three significant figures, as llava_viewer/look/wording.py writes it.
function amount(own) {
  const rounded = Number(Math.abs(own).toExponential(2));
  if (rounded === 0) return "0";
  const sign = own < 0 ? "−" : "";
  if (rounded >= 1e-4 && rounded < 1e6) {
    const text = rounded.toFixed(Math.max(0, 2 - Math.floor(Math.log10(rounded))));
    return sign + (text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text);
  }
  return sign + rounded.toExponential(2).replace("e+", "e");
}

const withUnit = (view, own, signed) => `${signed && own > 0 ? "+" : ""}${amount(own)}${view.unit && NBSP + view.unit}`;
const textOf = (view, own) => (view.share ? percent(own) : withUnit(view, own, view.signed));
const scaleOf = (view, most) => (view.signed ? `${textOf(view, -most)} to ${textOf(view, most)}` : textOf(view, most));
const sizeOf = (view, own) => (view.signed ? Math.abs(own) : own);

const plain = {
  toMap, meanMap, levelsOf, codesOf, paletteOf, brightest, warningsOf, drawLegend, drawCard, readPatch, kept, pinned, points,
  drawCompare, inAll, stageFigure, stageTable, differenceFigure, inShares,
  pointed,
};

toMap = (grey, max, shares, view) => {
  if (!view.signed) return plain.toMap(grey, max, shares, view);
  const scale = Math.fround(max / 127);
  return { values: Float32Array.from(grey, (level) => scale * (level - 128)), max, shares, view };
};
meanMap = (maps) => {
  const map = plain.meanMap(maps);
  return { ...map, max: map.values.reduce((most, own) => Math.max(most, sizeOf(map.view, own)), 0) };
};
levelsOf = (map, most, levels = new Uint8Array(map.values.length)) => {
  if (!map.view.signed) return plain.levelsOf(map, most, levels);
  const scale = most > 0 ? 127.5 / most : 0;
  map.values.forEach((own, i) => { levels[i] = 128 + scale * own; });
  return levels;
};
codesOf = (map, most) => (map.view.signed
  ? Uint8Array.from(map.values, (own) => 128 + (most > 0 ? Math.round((127 * own) / most) : 0)) : plain.codesOf(map, most));
paletteOf = (key) => (views.find((view) => view.key === key).signed ? "difference" : plain.paletteOf(key));
brightest = (map, count) => plain.brightest({ values: map.values.map((own) => sizeOf(map.view, own)) }, count)
  .map((one) => ({ ...one, value: map.values[one.row * cols + one.col] }));
warningsOf = (map) => (map.view.share ? plain.warningsOf(map) : []);

drawLegend = (map, most) => {
  plain.drawLegend(map, most);
  byId("mark").style.display = map.view.share ? "" : "none";
  if (map.view.share) return;
  byId("most").textContent = scaleOf(map.view, most);
  byId("even").textContent = "";
};
// What a row's total splits into, by the map's id; its text was escaped when the page was made.
const splits = remembered(Infinity, (key) => new Map(Array.from(
  heldText(mapBlocks.get(key)).matchAll(/<image id="([\w-]+)"[^>]* data-split="([^"]+)"/g), ([, id, text]) => [id, text],
)));
function drawSplit({ view, layer, head, token, tokens }) {
  if (!byId("split")) return;
  const cells = cellsOf(view, layer, head);
  const slot = cells.length === view.cells ? 0 : cells.length === 1 ? cells[0] + 1 : -1;
  const text = tokens.length > 1 ? "" : splits(view.key).get(`s${view.index}-${slot}-${rowKey(view, token)}`) ?? "";
  byId("split").innerHTML = text;
  byId("split").hidden = !text;
}
drawCard = (take, map) => {
  plain.drawCard(take, map);
  drawSplit(take);
  if (map.view.share) return;
  byId("tops").replaceChildren(...brightest(map, TOP_PATCHES).map(({ row, col, value: own }) =>
    element("li", { textContent: `${row}, ${col}\t${textOf(map.view, own)}\t` })));
};
readPatch = () => {
  plain.readPatch();
  if (!told || !shown || shown.map.view.share) return;
  const own = shown.map.values[told.row * cols + told.col];
  byId("readout").textContent = `Row ${told.row}, column ${told.col}: ${textOf(shown.map.view, own)}`;
};
drawers[drawers.indexOf(plain.readPatch)] = readPatch;

spentText = textOf;
inShares = (view) => view.share && plain.inShares();
pointed = (numbers, view) => {
  if (view.share) return plain.pointed(numbers);
  const most = withUnit(view, Math.max(...numbers.map(([max]) => max)));
  return `${numbers.length > 1 ? `${numbers.length} maps, ` : ""}largest ${view.signed ? "size " : ""}${most}`;
};

// A and B have a difference where they show one quantity.
let comparing = null;
pinned = async () => {
  const [a, b] = await plain.pinned();
  comparing = a?.map.view ?? null;
  return a && b && a.map.view.quantity !== b.map.view.quantity ? [a, null] : [a, b];
};
drawCompare = async () => {
  await plain.drawCompare();
  const { a, b } = choice.pins;
  if (!a || !b || b.mean || a.view.quantity === b.view.quantity) return;
  const textContent = "B shows another quantity than A: no difference of them has a meaning.";
  trio.append(element("p", { className: "hint", textContent }));
};
points = (own) => (!comparing || comparing.share ? plain.points(own) : withUnit(comparing, own, true));
inAll = (a, b) => (a.map.view.share ? plain.inAll(a, b) : "");
kept = (map, most) => {
  const { view } = map;
  if (view.share) return plain.kept(map, most);
  const text = `largest ${textOf(view, brightest(map, 1)[0].value)}; scale ${view.signed ? "" : "0 to "}${scaleOf(view, most)}`;
  return [text, view.signed ? levelsOf(map, most) : codesOf(map, most), view.signed ? "apart" : "heat"];
};

stageFigure = () => {
  const plan = plain.stageFigure();
  const { take: { view, layer, head }, map, most } = shown;
  if (view.share) return plan;
  const slot = slotName(view, layer, head);
  const told = `Largest ${textOf(view, brightest(map, 1)[0].value)}. View ${view.name}: ${view.about}${slot && `; ${slot}`}.`;
  return {
    ...plan, mode: view.signed && plan.mode === "spotlight" ? "heat" : plan.mode, mark: null, unit: view.quantity,
    ramp: view.signed ? [[0, textOf(view, -most)], [50, "0"], [100, textOf(view, most)]] : [[0, "0"], [100, textOf(view, most)]],
    lines: [told, ...plan.lines.slice(1)],
  };
};
differenceFigure = () => ({
  ...plain.differenceFigure(), ...(comparing.share ? {} : { unit: `A minus B, ${comparing.quantity}` }),
});
stageTable = () => {
  const { take, map } = shown;
  if (map.view.share) return plain.stageTable();
  return table([
    `llava-gaze; ${model}`, `question: ${question}`, `shown: ${takeName(take)}; ${take.view.about}`, `state: ${stateText()}`,
    `value = ${map.view.quantity}`, "values are those of the page: 8 bits per patch", ...boxLines(),
  ], ["value", ...boxColumn.name()], (i) => [single(map.values[i]), ...boxColumn.cell(i)]);
};
