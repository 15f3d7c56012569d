// Layers and heads: pickers, and a board with one square for every single map of the chosen token.
const board = byId("board");
const boardLines = byId("boardlines");
const LINE_CELLS = 16;
const BOARD_AT_ONCE = 256;
const afterFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
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

function pick(layer, head) {
  [choice.layer, choice.head] = fitted(currentView(), layer, head);
  remember();
  show();
}
pickers.layer.addEventListener("change", (event) => pick(number(event.target.value), choice.head));
pickers.head.addEventListener("change", (event) => pick(choice.layer, number(event.target.value)));
pickers.pair.addEventListener("change", (event) => pick(...event.target.value.split(".").map(number)));

let inShares = () => value("k") === "shares";

async function drawBoard({ take }) {
  const { view } = take;
  fillPickers(view);
  if (view.cells === 1) return;
  const isOld = () => takeText(shown.take) !== takeText(take) || shares !== inShares(view);
  const shares = inShares(view);
  // A large board takes as long as many stages: the chosen map is on the screen first.
  if (view.cells > BOARD_AT_ONCE) await afterFrame();
  if (isOld()) return;
  const plan = layout(view);
  const cells = [...Array(view.cells).keys()];
  const numbers = await Promise.all(cells.map((cell) => numbersOfTake(take, cell)));
  const maps = shares ? [] : await Promise.all(cells.map((cell) => cellOfTake(take, cell)));
  const colours = palette(paletteOf(view.key));
  if (isOld()) return;
  const [most, , mostShare] = numbers.reduce((so, one) => so.map((own, i) => Math.max(own, one[i])));
  board.width = plan.width;
  board.height = plan.height;
  const context = board.getContext("2d");
  const drawn = context.createImageData(plan.width, plan.height);
  const packed = new Uint32Array(drawn.data.buffer);
  const inks = colours.map(([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);
  for (const cell of cells) {
    const [x, y] = plan.place(cell);
    const ink = inks[shares && mostShare > 0 ? Math.round((255 * numbers[cell][2]) / mostShare) : 0];
    const levels = shares ? null : levelsOf(maps[cell], value("s") === "shared" ? most : maps[cell].max);
    for (let row = 0, i = 0; row < rows; row++) {
      const start = (y + row) * plan.width + x;
      for (let col = 0; col < cols; col++, i++) packed[start + col] = levels ? inks[levels[i]] : ink;
    }
  }
  context.putImageData(drawn, 0, 0);
  drawLines(view, plan);
}

function drawLines(view, plan) {
  const { left, top, step, across, down, name, width, height } = plan;
  boardLines.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const inside = (cell) => cell < view.cells;
  const gaps = [...Array(view.cells).keys()].map((cell) => {
    const [x, y] = plan.place(cell);
    return `M${x} ${y}h${cols}v${rows}h${-cols}z`;
  });
  const parts = [svgElement("path", { d: gaps.join(""), class: "gap" })];
  // Few large squares would make the names larger than the page's own text.
  const size = Math.min(0.75 * name, (14 * width) / (boardLines.clientWidth || width));
  const label = (x, y, text, anchor) => parts.push(svgElement("text", { x, y, "font-size": size, "text-anchor": anchor }, text));
  if (plan.table) {
    const every = Math.ceil(across / (across > 16 ? 16 : across));
    for (let i = 0; i < across; i += every) label(left + (i + 0.5) * step.x, top - 0.22 * name, `H${view.heads[i]}`, "middle");
    for (let i = 0; i < down; i += every) label(left - 0.2 * name, top + (i + 0.5) * step.y + 0.28 * name, `L${view.layers[i]}`, "end");
  } else {
    for (let cell = 0; inside(cell); cell++) {
      const [x, y] = plan.place(cell);
      label(x + cols / 2, y + rows + 0.78 * name, slotName(view, ...cellName(view, cell)), "middle");
    }
  }
  const chosen = cellsOf(view, choice.layer, choice.head);
  if (chosen.length < view.cells) {
    for (const cell of chosen) {
      const [x, y] = plan.place(cell);
      parts.push(svgElement("rect", { x, y, width: cols, height: rows, class: "chosen" }));
    }
  }
  boardLines.replaceChildren(...parts);
  const room = plan.table && across > 16 ? 36 : 72;
  board.parentElement.style.setProperty("--board", `${Math.round((width / cols) * room)}px`);
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
let pointed = (numbers) => {
  const image = numbers.reduce((sum, one) => sum + one[2], 0) / numbers.length;
  return `${percent(image)} on the image${numbers.length === 1 ? `, brightest patch ${percent(numbers[0][0])}` : ""}`;
};
board.addEventListener("pointermove", async (event) => {
  const found = pointedAt(event);
  if (!found || !shown) return;
  const view = currentView();
  const cells = cellsOf(view, ...found);
  const numbers = await Promise.all(cells.map((cell) => numbersOfTake(shown.take, cell)));
  byId("pointed").textContent = `${slotName(view, ...found)}: ${pointed(numbers, view)}`;
});
board.addEventListener("pointerleave", () => { byId("pointed").textContent = ""; });
drawers.push(drawBoard);
