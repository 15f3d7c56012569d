// Layers and heads: pickers, and a board with one square for every single map of the chosen token.
const board = byId("board");
const boardLines = byId("boardlines");
const LINE_CELLS = 16;
const pickers = { layer: byId("pick-layer"), head: byId("pick-head"), pair: byId("pick-pair") };

// Where the squares lie: canvas px, one per patch, with room for the names of rows and columns.
function layout(view) {
  const table = !view.pairs.length && view.layers.length > 0 && view.heads.length > 0;
  const across = table ? view.heads.length : Math.min(LINE_CELLS, view.cells);
  const name = Math.round(rows * (table ? 0.55 : 0.42));
  const left = table ? Math.round(cols * 0.9) : 0;
  const step = { x: cols, y: rows + (table ? 0 : name) };
  const down = Math.ceil(view.cells / across);
  return {
    table, across, down, name, step, left, top: table ? name : 0,
    width: left + across * step.x, height: (table ? name : 0) + down * step.y,
    place: (cell) => [left + (cell % across) * step.x, (table ? name : 0) + Math.floor(cell / across) * step.y],
  };
}

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([text, own]) => new Option(text, own, false, own === chosen)));
}

let pickersFor = "";
function fillPickers(view) {
  const table = { layer: view.layers, head: view.heads, pair: view.pairs };
  const chosen = { layer: String(choice.layer ?? ""), head: String(choice.head ?? "") };
  chosen.pair = choice.layer === null ? "" : `${choice.layer}.${choice.head}`;
  if (pickersFor !== view.key) {
    pickersFor = view.key;
    for (const [kind, picker] of Object.entries(pickers)) {
      const list = view.cells > 1 ? table[kind] : [];
      picker.hidden = list.length < 2;
      const entries = kind === "pair"
        ? list.map(([layer, head]) => [`L${layer} H${head}`, `${layer}.${head}`])
        : list.map((one) => [`${one}`, `${one}`]);
      options(picker.querySelector("select"), [[`mean of ${list.length}`, ""], ...entries], chosen[kind]);
    }
    byId("layers").hidden = view.cells === 1;
  }
  for (const [kind, picker] of Object.entries(pickers)) picker.querySelector("select").value = chosen[kind];
}

pickers.layer.addEventListener("change", (event) => pick(number(event.target.value), choice.head));
pickers.head.addEventListener("change", (event) => pick(choice.layer, number(event.target.value)));
pickers.pair.addEventListener("change", (event) => pick(...event.target.value.split(".").map(number)));

drawers.push(({ take }) => {
  fillPickers(take.view);
  if (linesFor === take.view.key) markChosen(take.view, layout(take.view));
});

// Every single map of what is chosen: board, list and scatter show the same ones.
const mapsOfTake = remembered(2, (key, take) => together(take, (token) => cellMaps(take.view, allCells(take.view), token)));
const boardMaps = (take) => mapsOfTake(boardKey(take), take);

// The board as it is drawn now: the same again is left as it is.
const boardKey = (take) => takeText({ ...take, layer: null, head: null });
let boardDrawn = "";
let sheet = null;
async function drawBoard({ take }) {
  const { view } = take;
  if (view.cells === 1) return;
  const shares = inShares(view);
  const shared = value("s") === "shared";
  const name = paletteOf(view.key);
  const key = [boardKey(take), shares, shared, name].join();
  if (key === boardDrawn) return;
  boardDrawn = key;
  const plan = layout(view);
  const maps = await boardMaps(take);
  if (key !== boardDrawn) return;
  const [most, mostShare] = maps.reduce(([peak, share], one) => [Math.max(peak, one.max), Math.max(share, one.shares[1])], [0, 0]);
  if (sheet?.width !== plan.width || sheet.height !== plan.height) {
    sheet = new ImageData(plan.width, plan.height);
    Object.assign(board, { width: plan.width, height: plan.height });
  }
  const packed = new Uint32Array(sheet.data.buffer);
  const levels = new Uint8Array(rows * cols);
  const inks = palette(name).map(([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);
  for (const [cell, map] of maps.entries()) {
    const [x, y] = plan.place(cell);
    const ink = inks[shares && mostShare > 0 ? Math.round((255 * map.shares[1]) / mostShare) : 0];
    if (!shares) levelsOf(map, shared ? most : map.max, levels);
    for (let row = 0, i = 0; row < rows; row++) {
      const start = (y + row) * plan.width + x;
      for (let col = 0; col < cols; col++, i++) packed[start + col] = shares ? ink : inks[levels[i]];
    }
  }
  board.getContext("2d").putImageData(sheet, 0, 0);
  drawLines(view, plan);
}

// The names of rows and columns are those of a view; behind them are marks of what is chosen.
let linesFor = "";
function drawLines(view, plan) {
  if (linesFor !== view.key) boardLines.replaceChildren(...namedLines(view, plan), svgElement("g"));
  linesFor = view.key;
  markChosen(view, plan);
}
function markChosen(view, plan) {
  const chosen = cellsOf(view, choice.layer, choice.head);
  boardLines.lastChild.replaceChildren(...(chosen.length < view.cells ? chosen : []).map((cell) => {
    const [x, y] = plan.place(cell);
    return svgElement("rect", { x, y, width: cols, height: rows, class: "chosen" });
  }));
}

function namedLines(view, plan) {
  const { left, top, step, across, down, name, width, height } = plan;
  boardLines.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const room = plan.table && across > 16 ? 36 : 72;
  board.parentElement.style.setProperty("--board", `${Math.round((width / cols) * room)}px`);
  const gaps = allCells(view).map((cell) => `M${plan.place(cell)}h${cols}v${rows}h${-cols}z`);
  const parts = [svgElement("path", { d: gaps.join(""), class: "gap" })];
  // Few large squares would make the names larger than the page's own text.
  const size = Math.min(0.75 * name, (14 * width) / (boardLines.clientWidth || width));
  const label = (x, y, text, anchor) => parts.push(svgElement("text", { x, y, "font-size": size, "text-anchor": anchor }, text));
  if (plan.table) {
    const every = Math.ceil(across / (across > 16 ? 16 : across));
    for (let i = 0; i < across; i += every) label(left + (i + 0.5) * step.x, top - 0.22 * name, `H${view.heads[i]}`, "middle");
    for (let i = 0; i < down; i += every) label(left - 0.2 * name, top + (i + 0.5) * step.y + 0.28 * name, `L${view.layers[i]}`, "end");
  } else {
    for (const cell of allCells(view)) {
      const [x, y] = plan.place(cell);
      label(x + cols / 2, y + rows + 0.78 * name, slotName(view, ...cellName(view, cell)), "middle");
    }
  }
  return parts;
}

// Which square lies under the pointer; a row's or a column's name stands for its mean.
function pointedAt(event) {
  const view = currentView();
  const plan = layout(view);
  const box = board.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * plan.width;
  const y = ((event.clientY - box.top) / box.height) * plan.height;
  const column = x < plan.left ? null : Math.floor((x - plan.left) / plan.step.x);
  const line = y < plan.top ? null : Math.floor((y - plan.top) / plan.step.y);
  if (column === null && line === null) return null;
  if (column === null) return [view.layers[line] ?? null, null];
  if (line === null) return [null, view.heads[column] ?? null];
  const cell = line * plan.across + column;
  return cell < view.cells ? cellName(view, cell) : null;
}
board.addEventListener("click", (event) => {
  const found = pointedAt(event);
  if (!found) return;
  pick(...(found[0] === choice.layer && found[1] === choice.head ? [null, null] : found));
});
// What is told of the square under the pointer: {view, found}; anew when another map is shown.
let under = null;
async function tellPointed() {
  const own = under;
  if (!own || own.view !== shown?.take.view) return setPointed("");
  const { take } = shown;
  const maps = await boardMaps(take);
  if (own !== under || take !== shown.take) return;
  const numbers = cellsOf(own.view, ...own.found).map((cell) => [maps[cell].max, ...maps[cell].shares]);
  setPointed(`${slotName(own.view, ...own.found)}: ${pointed(numbers, own.view)}`);
}
function setPointed(text) {
  byId("pointed").textContent = text;
}
board.addEventListener("pointermove", (event) => {
  const found = pointedAt(event);
  if (!found) return;
  under = { view: currentView(), found };
  tellPointed();
});
board.addEventListener("pointerleave", () => {
  under = null;
  tellPointed();
});
document.addEventListener("change", (event) => { if (event.target.name === "k") drawBoard(shown); });

// What is drawn when the chosen map is on the screen, one after the other: a large board takes as long as many stages.
const later = [drawBoard, tellPointed];
const BOARD_AT_ONCE = 256;
const finding = board.closest(".finding");
drawLater = async (own) => {
  const isLarge = own.take.view.cells > BOARD_AT_ONCE;
  finding.setAttribute("aria-busy", isLarge);
  for (const draw of later) {
    if (isLarge) await afterFrame();
    if (shown !== own) return;
    await draw(own);
  }
  finding.setAttribute("aria-busy", "false");
};
