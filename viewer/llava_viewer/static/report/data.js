// The maps inside the page: text blocks -> values, decoded when they are first shown.
//
// A map is {values: Float32Array [row * cols], max, shares: [bos, image, prompt, answer, maybe separators]}; values are shares of the
// token's attention, stored as square-root codes. Maps come from the grey PNGs of the page's held text, or from the
// atlas of a view.
const byId = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

const svgElement = (tag, attributes = {}, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, own] of Object.entries(attributes)) made.setAttribute(name, own);
  if (text !== undefined) made.textContent = text;
  return made;
};

const element = (tag, own) => Object.assign(document.createElement(tag), own);

// What a page without the script has as elements, which early.js made the browser leave as text.
const heldText = (block) => block.querySelector("noscript").textContent;

for (const template of all("template")) template.replaceWith(template.content);

const stage = byId("stage");
const rows = +stage.dataset.rows;
const cols = +stage.dataset.cols;
const [gridX0, gridY0, gridX1, gridY1] = stage.dataset.grid.split(" ").map(Number);
const picture = { width: +stage.dataset.width, height: +stage.dataset.height };
const patchWidth = (gridX1 - gridX0) / cols;
const patchHeight = (gridY1 - gridY0) / rows;
const corner = (row, col) => [gridX0 + col * patchWidth, gridY0 + row * patchHeight];

const numbersOf = (text) => (text ? text.split(" ").map(Number) : []);
const views = all('input[name="v"]').map((input) => {
  const layers = numbersOf(input.dataset.layers);
  const heads = numbersOf(input.dataset.heads);
  const pairs = input.dataset.pairs ? input.dataset.pairs.split(" ").map((pair) => pair.split(".").map(Number)) : [];
  const cells = pairs.length || Math.max(1, layers.length) * Math.max(1, heads.length);
  return {
    key: input.id, index: input.id.slice(1), name: input.dataset.name, about: input.dataset.about,
    whole: input.dataset.whole || "", error: +input.dataset.error, atlas: "atlas" in input.dataset, split: +(input.dataset.split || 4), layers, heads, pairs, cells,
  };
});

function bytes(base64) {
  const text = atob(base64);
  const data = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) data[i] = text.charCodeAt(i);
  return data;
}

// Written and read by hand: a Blob's stream comes in tasks, which wait behind the file that is still being read.
async function inflated(data) {
  const stream = new DecompressionStream("deflate");
  const writer = stream.writable.getWriter();
  writer.write(data);
  writer.close();
  const parts = [];
  const reader = stream.readable.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) parts.push(part.value);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole.buffer;
}

// The grey levels of a PNG as llava_viewer/heatmap.py writes it: one IDAT, 8 bits, no line filters.
async function greyLevels(uri) {
  const png = bytes(uri.slice(uri.indexOf(",") + 1));
  const view = new DataView(png.buffer);
  let at = 8;
  while (view.getUint32(at + 4) !== 0x49444154) at += view.getUint32(at) + 12;
  const lines = new Uint8Array(await inflated(png.subarray(at + 8, at + 8 + view.getUint32(at))));
  const grey = new Uint8Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    grey.set(lines.subarray(row * (cols + 1) + 1, (row + 1) * (cols + 1)), row * cols);
  }
  return grey;
}

function toMap(grey, max, shares, view) {
  const values = new Float32Array(grey.length);
  const scale = Math.fround(max / 65025);
  for (let i = 0; i < grey.length; i++) values[i] = scale * grey[i] * grey[i];
  return { values, max, shares, view };
}

// A moment later than the frame, so that it goes out first.
const afterFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 4)));
// What long work awaits between its steps, so that the page stays awake.
function rests() {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < 8) return;
    await afterFrame();
    since = performance.now();
  };
}

// One promise per key, made once; the oldest are forgotten.
function remembered(limit, make) {
  const kept = new Map();
  return (key, ...rest) => {
    if (!kept.has(key)) {
      if (kept.size >= limit) kept.delete(kept.keys().next().value);
      kept.set(key, make(key, ...rest));
    }
    return kept.get(key);
  };
}

const ENTRY = /<image id="([\w-]+)" data-n="([^"]+)" href="([^"]+)"/g;
const mapBlocks = new Map(all(".maps").map((block) => [block.dataset.view, block]));
// The frames of a view by slot ("s0-0": {"s0-0-t7": frame}).
const viewFrames = remembered(Infinity, (view) => {
  const found = {};
  for (const [, id, numbers, uri] of heldText(mapBlocks.get(view)).matchAll(ENTRY)) {
    const [max, ...shares] = numbers.split(" ").map(Number);
    (found[slotOf(id)] ??= new Map()).set(id, { uri, max, shares });
  }
  return found;
});
const slotOf = (id) => id.split("-", 2).join("-");
const slotFrames = (slot) => viewFrames(`v${slot.slice(1, slot.indexOf("-"))}`)[slot];

const slotMap = remembered(2000, async (id) => {
  const frame = slotFrames(slotOf(id)).get(id);
  return toMap(await greyLevels(frame.uri), frame.max, frame.shares, views[id.slice(1, id.indexOf("-"))]);
});

// The atlases come after the script in the file: an atlas is waited for until the page has been read to its end.
const whole = new Promise((resolve) => {
  if (document.readyState !== "loading") resolve();
  else document.addEventListener("DOMContentLoaded", resolve);
});
const block = async (id) => {
  while (!byId(id)?.nextElementSibling && document.readyState === "loading") await new Promise((resolve) => setTimeout(resolve, 9));
  return inflated(bytes(byId(id).textContent));
};
const atlasLevels = remembered(160, async (id) => new Uint8Array(await block(id)));
const atlasNumbers = remembered(Infinity, async (id) => new Float32Array(await block(id)));

const tokenKeys = all('input[name="t"]').map((input) => input.id);
const specialKeys = new Set(all(".tok.special").map((label) => label.htmlFor));
// Which row of the record's table a token is: the table has answer rows first, the page the question.
const queryOf = (token) => +byId(token).dataset.q;
const rowKey = (view, token) => (view.whole ? "all" : token);

const cellSlot = (view, cell) => `s${view.index}-${view.cells > 1 ? cell + 1 : 0}`;
const mapNumber = (view, token) => (view.whole ? 0 : queryOf(token)) * view.cells;

// Single maps of a view for a token.
async function cellMaps(view, cells, token) {
  const row = rowKey(view, token);
  if (!view.atlas) return Promise.all(cells.map((cell) => slotMap(`${cellSlot(view, cell)}-${row}`)));
  const numbers = await cellNumbers(view, cells, token);
  const grey = await atlasLevels(`a-${view.key}-${row}`);
  return cells.map((cell, i) =>
    toMap(grey.subarray(cell * rows * cols, (cell + 1) * rows * cols), numbers[i][0], numbers[i].slice(1), view));
}

// Maximum and shares of single maps.
async function cellNumbers(view, cells, token) {
  if (!view.atlas) {
    return cells.map((cell) => {
      const slot = cellSlot(view, cell);
      const frame = slotFrames(slot).get(`${slot}-${rowKey(view, token)}`);
      return [frame.max, ...frame.shares];
    });
  }
  const numbers = await atlasNumbers(`n-${view.key}`);
  const count = 1 + view.split;
  return cells.map((cell) => [...numbers.subarray((mapNumber(view, token) + cell) * count).subarray(0, count)]);
}

// Which single maps a choice of layer and head takes; null stands for "mean over all".
function cellsOf(view, layer, head) {
  const found = [];
  for (let cell = 0; cell < view.cells; cell++) {
    const [ofLayer, ofHead] = cellName(view, cell);
    if ((layer === null || ofLayer === layer) && (head === null || ofHead === head)) found.push(cell);
  }
  return found;
}

function cellName(view, cell) {
  if (view.pairs.length) return view.pairs[cell];
  const heads = Math.max(1, view.heads.length);
  return [view.layers[Math.floor(cell / heads)] ?? null, view.heads[cell % heads] ?? null];
}

// The map that a choice shows: a single one, the view's mean, or the mean of a layer or a head.
async function mapOf(view, layer, head, token) {
  const cells = cellsOf(view, layer, head);
  if (view.cells === 1 || cells.length === view.cells) return slotMap(`s${view.index}-0-${rowKey(view, token)}`);
  const maps = await cellMaps(view, cells, token);
  return maps.length === 1 ? maps[0] : meanMap(maps);
}

function meanMap(maps) {
  const values = meanOf(maps.map((map) => map.values));
  const shares = maps[0].shares.map(() => 0);
  for (const map of maps) for (let i = 0; i < shares.length; i++) shares[i] += map.shares[i] / maps.length;
  return { values, max: values.reduce((a, b) => Math.max(a, b), 0), shares, view: maps[0].view };
}

// At every patch the value of the largest size; shares are those of the mean.
function largestMap(maps) {
  const values = largestOf(maps.map((map) => map.values));
  return { ...meanMap(maps), values, max: values.reduce((most, own) => Math.max(most, Math.abs(own)), 0) };
}

// What one or several tokens have together: `some` gives a list of maps of a token.
async function together({ view, tokens, how }, some) {
  const found = await Promise.all((view.whole ? [tokens[0]] : tokens).map(some));
  if (found.length === 1) return found[0];
  return found[0].map((_, i) => (how === "max" ? largestMap : meanMap)(found.map((maps) => maps[i])));
}
const mapOfTake = async (take) =>
  (await together(take, async (token) => [await mapOf(take.view, take.layer, take.head, token)]))[0];
const allCells = (view) => [...Array(view.cells).keys()];

// The largest value of a choice over all tokens: the end of the shared scale.
const largest = remembered(400, async (key, view, layer, head) => {
  const cells = cellsOf(view, layer, head);
  const tokens = view.whole ? [""] : tokenKeys;
  if (view.cells === 1 || cells.length === view.cells) {
    return [...slotFrames(`s${view.index}-0`).values()].reduce((most, frame) => Math.max(most, frame.max), 0);
  }
  let most = 0;
  const rest = rests();
  for (const token of tokens) {
    await rest();
    const max = cells.length === 1
      ? (await cellNumbers(view, cells, token))[0][0] : (await mapOf(view, layer, head, token)).max;
    most = Math.max(most, max);
  }
  return most;
});
