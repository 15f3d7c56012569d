// Two kept maps side by side on one scale, and their difference.
const trio = byId("trio");
let difference = null;

const wordOf = (token) => (token ? desk.querySelector(`.tok[for="${token}"]`)?.textContent ?? token : "the whole answer");
function takeName(take) {
  if (take.mean) return `the mean of all words in “${take.view.name}”`;
  const slot = slotName(take.view, take.layer, take.head);
  const many = take.tokens.length > 1 ? `s, ${take.how === "max" ? "maximum" : "mean"} of` : "";
  const word = take.view.whole ? "the whole answer"
    : `“${phraseText(take.tokens)}” (token${many} ${take.tokens.map(tokenName).join(", ")})`;
  return `${word} in “${take.view.name}”${slot ? `, ${slot}` : ""}`;
}

// B may be "mean of all words": that of A's view, layer and head.
async function pinned() {
  const { a, b } = choice.pins;
  const second = b?.mean ? a && { ...a, mean: true } : b;
  const maps = [];
  for (const take of [a, second]) {
    if (!take) maps.push(null);
    else if (!take.mean || take.view.whole) maps.push(await mapOfTake(take));
    else maps.push(meanMap(await Promise.all(words().map((key) => mapOf(take.view, take.layer, take.head, key)))));
  }
  return [a && { take: a, map: maps[0] }, second && { take: second, map: maps[1] }];
}

// The rows of a mean over the answer, as llava_wire/choose.py's ordinary_rows takes them.
const words = () => {
  const answered = tokenKeys.filter((key) => key.startsWith("t"));
  const ordinary = answered.filter((key) => !specialKeys.has(key));
  return ordinary.length ? ordinary : answered.length ? answered : tokenKeys;
};

function plate(letter, name, caption, levels, kind) {
  const figure = document.createElement("figure");
  const svg = svgElement("svg", { viewBox: stage.getAttribute("viewBox"), role: "img", "aria-label": `${letter}: ${name}` });
  svg.append(svgElement("use", { class: "photo", href: "#photo" }));
  const heat = svgElement("g", { class: kind, transform: byId("heat").getAttribute("transform") });
  heat.append(svgElement("image", { width: cols, height: rows, href: pngUri(levels) }));
  svg.append(heat, ...all(".hatched", stage).map((one) => one.cloneNode()));
  figure.append(svg, element("b", { textContent: `${letter}: ${name}` }), element("figcaption", { textContent: caption }));
  return figure;
}

// What is said of a kept map, its levels, and the style that colours them.
let kept = (map, most) => [
  `image ${percent(map.shares[1])}, brightest patch ${percent(map.max)}; scale 0 to ${percent(most)}`, codesOf(map, most), "heat",
];

let inAll = (a, b) => `image ${points(a.map.shares[1] - b.map.shares[1])} in all; `;

let compared = 0;
async function drawCompare() {
  const turn = ++compared;
  const pins = await pinned();
  if (turn !== compared) return;
  const [a, b] = pins;
  difference = null;
  const most = Math.max(a?.map.max ?? 0, b?.map.max ?? 0);
  const figures = pins.map((pin, i) => pin && plate("AB"[i], takeName(pin.take), ...kept(pin.map, most)));
  if (a && b) {
    const values = a.map.values.map((own, i) => own - b.map.values[i]);
    // What storing both maps may change is no difference, and no scale ends near it.
    const floor = a.take.view.error + b.take.view.error;
    const sure = values.map((own) => (Math.abs(own) > floor ? own : 0));
    const extent = sure.reduce((so, own) => Math.max(so, Math.abs(own)), 2 * floor);
    const levels = Uint8Array.from(sure, (own) => (own && extent > 0 ? Math.round(127.5 + (127.5 * own) / extent) : 128));
    difference = { a, b, values, extent, levels };
    const told = sure.some((own) => own) ? `up to ${points(floor).slice(1)} left out` : `no difference over ${points(floor).slice(1)}`;
    const last = plate("A − B", "difference",
      inAll(a, b) + told, levels, "apart");
    const ramp = svgElement("svg", { class: "signed", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    ramp.append(svgElement("use", { href: "#grey", filter: "url(#o-difference)" }));
    const ends = element("p", { className: "ends" });
    for (const textContent of [points(-extent), "0", points(extent)]) ends.append(element("span", { textContent }));
    last.querySelector("b").after(ramp, ends);
    figures.push(last);
  }
  trio.replaceChildren(...figures.filter(Boolean));
  if (!a && choice.pins.b?.mean) trio.textContent = "Keep a map as A to compare it with the mean.";
  byId("save-difference").hidden = !difference;
}

function pin(changes) {
  Object.assign(choice.pins, changes);
  remember();
  return drawCompare();
}
byId("pin-a").addEventListener("click", () => pin({ a: currentTake() }));
byId("pin-b").addEventListener("click", () => pin({ b: currentTake() }));
byId("pin-mean").addEventListener("click", () => pin({ a: choice.pins.a ?? currentTake(), b: { mean: true } }));
byId("unpin").addEventListener("click", () => pin({ a: null, b: null }));
byId("swap").addEventListener("click", () => {
  const { a, b } = choice.pins;
  pin({ a: b?.mean ? a : b, b: b?.mean ? b : a });
});
