// Saving what is shown: SVG and PNG figures, and the numbers as CSV.
const PNG_WIDTH = 2100; // 7 inches at 300 dots per inch
const model = `Asked of ${byId("model").textContent.trim().replace(/\s+/g, " ")}`;
const question = document.querySelector(".asked, h1").textContent.trim();

function download(name, kind, data) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const fileName = (...parts) => ["llava-gaze", ...parts].map((part) => String(part).replace(/[^A-Za-z0-9]+/g, "-")
  .replace(/^-+|-+$/g, "").slice(0, 40)).filter(Boolean).join("_");
const takeParts = (take) => [
  take.mean ? "mean" : take.view.whole ? "answer" : tokensText(take).replace(/^(?=\d)/, "t"), take.view.name,
  take.layer === null ? "" : `L${take.layer}`, take.head === null ? "" : `H${take.head}`,
];

// What `llava-viewer render --open` takes to show the same.
const stateText = () => address().slice(1);

function stageFigure() {
  const { take, map, most } = shown;
  const [top] = brightest(map, 1);
  const even = evenShare(map);
  return {
    levels: levelsOf(map, most), mode: value("m"), palette: paletteOf(take.view.key), opacity: byId("opacity").value / 100,
    peak: [top.row, top.col], ramp: [[0, "0"], [100, percent(most)]], mark: most > 0 ? Math.min(100, (100 * even) / most) : 0,
    unit: `share of attention per patch; mark: even spread ${percent(even)}`,
    box: choice.box, title: take.view.whole ? "The whole answer" : `“${phraseText(take.tokens)}”`,
    lines: [
      ...phraseLines(take),
      `${percent(map.shares[1])} of the attention is on the image; brightest patch ${percent(map.max)}. ` +
        `View ${take.view.name}: ${take.view.about}${slotName(take.view, take.layer, take.head) && `; ${slotName(take.view, take.layer, take.head)}`}.`,
      ...boxLines(),
      `${model} · Question: ${question}`,
      `Shown: ${stateText()}`,
      "Where the model read from, not why it answered. Made by llava-gaze.",
    ],
  };
}

function differenceFigure() {
  const { a, b, levels, extent } = difference;
  return {
    levels,
    mode: value("m") === "map" ? "map" : "heat", palette: "difference", opacity: byId("opacity").value / 100, peak: null,
    ramp: [[0, points(-extent)], [50, "0"], [100, points(extent)]], mark: null, unit: "A minus B, points of attention per patch",
    box: choice.box, title: "A − B",
    lines: [`A: ${takeName(a.take)}. B: ${takeName(b.take)}.`, `${model} · Question: ${question}`, `Shown: ${stateText()}`,
      "Where the model read from, not why it answered. Made by llava-gaze."],
  };
}

// One line per patch, in reading order; the heads of the columns come after what is said about the whole.
function table(about, columns, cells) {
  const told = about.map((text) => `# ${text.replace(/[\r\n\u2028\u2029]+/g, " ")}`);
  const lines = [...Array(rows * cols).keys()].map((i) => {
    const [row, col] = [Math.floor(i / cols), i % cols];
    const [x, y] = corner(row, col);
    const places = [x, y, x + patchWidth, y + patchHeight].map((edge) => +edge.toFixed(4));
    return [row, col, ...places, ...cells(i)].join(",");
  });
  return [...told, ["row", "col", "x0_px", "y0_px", "x1_px", "y1_px", ...columns].join(","), ...lines, ""].join("\r\n");
}

// How much of each patch lies in the box, where there is one.
const boxColumn = {
  name: () => (choice.box ? ["in_box"] : []),
  cell: (i) => (choice.box ? [+(answered.cover.patches.find(([patch]) => patch === i)?.[1] ?? 0).toFixed(6)] : []),
};

// A float32 in as few digits as give the same float32 again.
function single(own) {
  for (let digits = 6; digits < 9; digits++) {
    const text = Number(own.toPrecision(digits));
    if (Math.fround(text) === Math.fround(own)) return String(text);
  }
  return String(Number(own.toPrecision(9)));
}

function stageTable() {
  const { take, map } = shown;
  return table([
    `llava-gaze; ${model}`, `question: ${question}`, `shown: ${takeName(take)}; ${take.view.about}`, `state: ${stateText()}`,
    ...phraseLines(take),
    `share = this patch's part of the attention${isMaximum(take) ? "" : `; the shares add up to the image share, ${single(map.shares[1])}`}`,
    "values are those of the page: 8 bits per patch, sums kept to 0.1 points", ...boxLines(),
  ], ["share", ...boxColumn.name()], (i) => [single(map.values[i]), ...boxColumn.cell(i)]);
}

function differenceTable() {
  const { a, b, values } = difference;
  return table([`llava-gaze; ${model}`, `question: ${question}`, `A: ${takeName(a.take)}`, `B: ${takeName(b.take)}`,
    `state: ${stateText()}`],
    ["a", "b", "a_minus_b"], (i) => [single(a.map.values[i]), single(b.map.values[i]), single(values[i])]);
}

async function pngOf({ text, box }) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = PNG_WIDTH;
  canvas.height = Math.round((PNG_WIDTH * box.height) / box.width);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  // Behind the head of 33 bytes the resolution: 11,811 px a metre, both ways.
  return new Blob([blob.slice(0, 33), chunk("pHYs", Uint8Array.of(0, 0, 46, 35, 0, 0, 46, 35, 1)), blob.slice(33)]);
}

async function save(kind, name, figure, numbers) {
  if (kind === "csv") return download(`${name}.csv`, "text/csv;charset=utf-8", numbers());
  const svg = await figureSvg(figure());
  if (kind === "svg") download(`${name}.svg`, "image/svg+xml", svg.text);
  else download(`${name}.png`, "image/png", await pngOf(svg));
}
for (const button of all("[data-save]")) {
  button.addEventListener("click", () => {
    if (button.closest("#save-difference")) {
      save(button.dataset.save, fileName("A-minus-B", ...takeParts(difference.a.take)), differenceFigure, differenceTable);
    } else if (shown) save(button.dataset.save, fileName(...takeParts(shown.take)), stageFigure, stageTable);
  });
}
