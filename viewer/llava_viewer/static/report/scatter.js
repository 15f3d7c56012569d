// Heads as points: what they read of the image across, how scattered their maps are upwards (the two criteria of Kang et
// al.). A point chosen by pointer or keys shows its head, on the small stage beside it too.
const scatter = byId("scatter");
const nearby = byId("nearby");
nearby.setAttribute("viewBox", stage.getAttribute("viewBox"));
nearby.querySelector("g").setAttribute("transform", byId("heat").getAttribute("transform"));
for (const name of ["width", "height"]) nearby.querySelector("image").setAttribute(name, live.getAttribute(name));
nearby.append(...all(".hatched", stage).map((one) => one.cloneNode()));
const FIELD = { left: 8, right: 232, top: 18, bottom: 150 };
let points2d = [];
let pointAt = -1;
let scatterSeen = false;

drawers.push(({ take }) => {
  nearby.querySelector("image").setAttribute("href", live.getAttribute("href"));
  nearby.parentNode.querySelector("figcaption").textContent =
    [take.view.whole ? "the whole answer" : phraseText(take.tokens), slotName(take.view, take.layer, take.head)].filter(Boolean).join(", ");
});

async function drawScatter({ take }) {
  const { view } = take;
  if (!scatterSeen) byId("scattered").textContent = "";  // nor is anything of another map left standing out of sight
  if (view.cells === 1 || !scatterSeen) return;
  const isOld = () => shown.take !== take;
  const maps = await boardMaps(take);
  if (isOld()) return;
  const found = maps.map((map, cell) => ({ cell, ...criteria(map) }));
  const shares = found.map((one) => one.share);
  const [low, high] = [Math.min(0, ...shares), Math.max(0, ...shares)];
  const most = found.reduce((so, one) => (one.entropy < Infinity ? Math.max(so, one.entropy) : so), 0);
  const { left, right, top, bottom } = FIELD;
  points2d = found.map((one) => ({
    ...one, x: left + (right - left) * (high > low ? (one.share - low) / (high - low) : 0),
    y: one.entropy < Infinity ? bottom - (bottom - top - 8) * (most > 0 ? one.entropy / most : 0) : top,
  }));
  const label = (x, y, anchor, text) => svgElement("text", { x, y, "text-anchor": anchor }, text);
  const isChosen = ({ cell }) => {
    const [layer, head] = cellName(view, cell);
    return layer === choice.layer && head === choice.head;
  };
  // The chosen one is drawn last, over the others.
  const dots = [...points2d].sort((a, b) => isChosen(a) - isChosen(b)).map((one) =>
    svgElement("circle", { cx: one.x, cy: one.y, r: isChosen(one) ? 5 : 3, class: isChosen(one) ? "chosen" : "" }));
  scatter.replaceChildren(
    svgElement("path", { d: `M${left} ${top}V${bottom}H${right}` }), ...dots, svgElement("circle", { id: "dot", r: 7, cx: -99 }),
    label(left, 11, "start", `entropy ${most.toFixed(2)}`), label(left, 164, "start", spentText(view, low)),
    label(right, 164, "end", spentText(view, high)), label(120, 177, "middle", view.share === false ? "sum over the image" : "share of the image"),
  );
  pointAt = points2d.findIndex(isChosen);
  if (byId("scattered").textContent) showPoint(pointAt);  // what is told is of the shown map
}
function showPoint(at) {
  pointAt = at;
  const one = points2d[at];
  byId("dot").setAttribute("cx", one?.x ?? -99);
  byId("dot").setAttribute("cy", one?.y ?? 0);
  const view = currentView();
  byId("scattered").textContent = one
    ? `${slotName(view, ...cellName(view, one.cell))}: ${spentText(view, one.share)}, entropy ${MEASURES.entropy[1](one.entropy)}` : "";
}
function nearestPoint(event) {
  const box = scatter.getBoundingClientRect();
  const [x, y] = [((event.clientX - box.left) / box.width) * 240, ((event.clientY - box.top) / box.height) * 180];
  const far = (one) => (one.x - x) ** 2 + (one.y - y) ** 2;
  const at = points2d.reduce((best, one, i) => (best < 0 || far(one) < far(points2d[best]) ? i : best), -1);
  return at >= 0 && far(points2d[at]) < 400 ? at : -1;
}
const takePoint = () => points2d[pointAt] && pick(...cellName(currentView(), points2d[pointAt].cell));
scatter.addEventListener("pointermove", (event) => showPoint(nearestPoint(event)));
scatter.addEventListener("click", (event) => {
  showPoint(nearestPoint(event));
  takePoint();
});
scatter.addEventListener("keydown", (event) => {
  const [by, step] = { ArrowRight: ["share", 1], ArrowLeft: ["share", -1], ArrowUp: ["entropy", 1], ArrowDown: ["entropy", -1] }[event.key] ?? [];
  if (by) {
    const order = [...points2d.keys()].sort((a, b) => points2d[a][by] - points2d[b][by] || a - b);
    const from = order.indexOf(pointAt);
    showPoint(order[Math.min(order.length - 1, Math.max(0, from < 0 ? 0 : from + step))]);
  } else if (event.key === "Enter") takePoint();
  else return;
  event.preventDefault();
});
new IntersectionObserver(([entry]) => {
  scatterSeen = entry.isIntersecting;
  if (scatterSeen && shown) drawScatter(shown);
}).observe(scatter);
later.push(drawScatter);
