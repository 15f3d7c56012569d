"use strict";
// Reads a llava-gaze record of version 1 or 2, by docs/wire-format.md alone. Runs in browsers and in Node.
//
// Flow: bytes -> the zip's directory -> members -> record.json and .npy arrays -> facts under version 2's keys, the
// rectangle of every patch, and every view with its maps as float32 [..., patch].

async function readRecord(bytes) {
  const members = await unzip(bytes);
  const facts = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(members.get("record.json")));
  if (facts.format !== "llava-gaze-record") throw new Error(`got format ${facts.format}`);
  if (facts.version !== 1 && facts.version !== 2) throw new Error(`got version ${facts.version}`);
  const now = facts.version === 1 ? asVersion2(facts) : facts;
  const patches = now.grids.reduce((sum, grid) => sum + grid.rows * grid.cols, 0);
  const rects = npy(members.get("patch_rects.npy"));
  const expected = now.grids.flatMap((grid) => rectangles(grid, now.images[grid.image]));
  if (rects.values.length !== 4 * patches) throw new Error(`got ${rects.values.length / 4} rectangles`);
  const views = now.views.map((view, index) => readView(members, view, index, now, patches));
  return { facts: now, positions: now.grids.map(positionsOf), rects: rects.values, expected, views };
}

function readView(members, view, index, facts, patches) {
  const sizes = {
    query: facts.queries.length, layer: view.layers.length, head: view.heads.length, layer_head: view.pairs.length,
    patch: patches,
  };
  const shape = view.axes.map((axis) => sizes[axis]);
  const maps = npy(members.get(`views/${index}/maps.npy`));
  const scales = npy(members.get(`views/${index}/scales.npy`)).values;
  const count = shape.slice(0, -1).reduce((product, size) => product * size, 1);
  if (maps.values.length !== count * patches || scales.length !== count) throw new Error(`got another shape in ${view.name}`);
  const value = VALUES[view.encoding];
  if (!value) throw new Error(`got encoding ${view.encoding}`);
  const values = Float32Array.from(maps.values, (stored, i) => value(stored, scales[Math.floor(i / patches)]));
  const share = view.quantity.unit === "share" && !view.quantity.signed;
  const shares = share ? npy(members.get(`views/${index}/shares.npy`)).values : null;
  return { name: view.name, axes: view.axes, shape, values, shares, bound: view.error_bound, quantity: view.quantity };
}

// In float32: every product is rounded before the next.
const VALUES = {
  "sqrt-u8": (stored, scale) => Math.fround(stored * stored * scale),
  "linear-u8": (stored, scale) => Math.fround(stored * scale),
  "signed-u8": (stored, scale) => Math.fround((stored - 128) * scale),
  float16: (stored) => stored,
  float32: (stored) => stored,
};

// "Reading version 1": the same facts under version 2's keys.
function asVersion2(facts) {
  const { image, geometry, ...rest } = facts;
  const { image_start: start, image_count: count, ...prompt } = facts.prompt;
  const quantity = { name: "attention", unit: "share", signed: false, additive: true };
  return {
    ...rest,
    prompt,
    images: [image],
    grids: [{ ...geometry, image: 0, name: "base", positions: [[start, count]] }],
    views: facts.views.map((view) => ({
      ...view, axes: [...view.axes.slice(0, -2), "patch"], method: { name: "attention", parameters: {} }, quantity,
    })),
  };
}

function positionsOf(grid) {
  return grid.positions.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
}

// The corners of every patch taken back through the steps, in exact rationals that are rounded once.
function rectangles(grid, image) {
  const axis = (size, place, sizeOf, offsetOf, count) => {
    const before = [BigInt(size), ...grid.steps.map((step) => BigInt(step[sizeOf]))];
    let [scale, offset] = [[1n, 1n], [0n, 1n]];
    for (let i = grid.steps.length; i > 0; i--) {
      const step = grid.steps[i - 1];
      const moved = [BigInt(step[offsetOf]), 1n];
      if (step.op === "resize") [scale, offset] = [scale, offset].map((own) => times(own, [before[i - 1], before[i]]));
      else if (step.op === "crop") offset = plus(offset, moved);
      else offset = plus(offset, [-moved[0], 1n]);
    }
    return Array.from({ length: count + 1 }, (_, n) =>
      rounded(plus(times(scale, [BigInt(n * grid.patch_px), 1n]), offset)));
  };
  const xs = axis(image.width_px, 0, "width_px", "left_px", grid.cols);
  const ys = axis(image.height_px, 1, "height_px", "top_px", grid.rows);
  const rects = [];
  for (let row = 0; row < grid.rows; row++) {
    for (let col = 0; col < grid.cols; col++) rects.push(xs[col], ys[row], xs[col + 1], ys[row + 1]);
  }
  return rects;
}
const times = ([a, b], [c, d]) => [a * c, b * d];
const plus = ([a, b], [c, d]) => [a * d + c * b, b * d];

// A rational as the nearest float64, ties to even; none of these is so small that it is not a normal number.
function rounded([over, under]) {
  if (over === 0n) return 0;
  const negative = over < 0n;
  const top = negative ? -over : over;
  const shift = BigInt(under.toString(2).length - top.toString(2).length + 54);
  const [a, b] = shift >= 0n ? [top << shift, under] : [top, under << -shift];
  let quotient = a / b;
  let exponent = -shift;
  const rest = a % b !== 0n ? 1n : 0n;
  const extra = BigInt(quotient.toString(2).length - 53);
  const half = 1n << (extra - 1n);
  const low = quotient & ((1n << extra) - 1n);
  quotient >>= extra;
  exponent += extra;
  if (low > half || (low === half && (rest || quotient & 1n))) quotient += 1n;
  const found = Number(quotient) * 2 ** Number(exponent);
  return negative ? -found : found;
}

// A zip file without zip64: its directory lies at the end; every entry tells where its member begins.
async function unzip(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("got no zip");
  const members = new Map();
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [method, packed, size] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const local = view.getUint32(at + 42, true);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const data = bytes.subarray(start, start + packed);
    const member = method === 8 ? await inflated(data) : data;
    if (member.length !== size) throw new Error(`got ${member.length} bytes of ${name}`);
    members.set(name, member);
    at += 46 + nameLength + extra + comment;
  }
  return members;
}

async function inflated(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// An .npy file of format 1.0 or 2.0: {shape, values}.
function npy(bytes) {
  if (!bytes) throw new Error("got no such member");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = view.getUint8(6) === 2;
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const [, kind] = header.match(/'descr': '([^']+)'/);
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").map((side) => side.trim()).filter(Boolean).map(Number);
  if (!header.includes("'fortran_order': False")) throw new Error("got Fortran order");
  const count = shape.reduce((product, side) => product * side, 1);
  const [size, read] = {
    "|u1": [1, (at) => view.getUint8(at)],
    "<f2": [2, (at) => half(view.getUint16(at, true))],
    "<f4": [4, (at) => view.getFloat32(at, true)],
    "<f8": [8, (at) => view.getFloat64(at, true)],
  }[kind];
  return { shape, values: Array.from({ length: count }, (_, i) => read(start + length + i * size)) };
}

function half(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

// Plain values that another program can compare; floats keep all of their digits in JSON.
async function readBase64(text) {
  const { facts, positions, rects, expected, views } = await readRecord(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)));
  return {
    facts, positions, rects: Array.from(rects), expected,
    views: views.map((view) => ({ ...view, values: Array.from(view.values), shares: view.shares && Array.from(view.shares) })),
  };
}
