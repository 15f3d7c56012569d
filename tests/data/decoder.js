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
  const texts = (facts.version === 2 && facts.texts || []).map((text, index) => readText(members, text, index, now));
  return { facts: now, positions: now.grids.map(positionsOf), rects: rects.values, expected, views, texts };
}

function readText(members, text, index, facts) {
  const positions = positionsOf({ positions: text.columns });
  const { values } = npy(members.get(`texts/${index}.npy`));
  if (values.length !== facts.queries.length * positions.length) throw new Error(`got another shape in ${text.name}`);
  return { name: text.name, positions, values, quantity: text.quantity };
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
  const folded = view.encoding === "blocks-u8";
  const numbers = folded ? facts.grids.reduce((sum, grid) => sum + blocksOf(grid).members.length, 0) : patches;
  if (maps.values.length !== count * numbers || scales.length !== count) throw new Error(`got another shape in ${view.name}`);
  const value = VALUES[view.encoding];
  if (!value && !folded) throw new Error(`got encoding ${view.encoding}`);
  const values = folded
    ? unfolded(maps.values, scales, npy(members.get(`views/${index}/places.npy`)).values,
      npy(members.get(`views/${index}/largest.npy`)).values, facts.grids)
    : Float32Array.from(maps.values, (stored, i) => value(stored, scales[Math.floor(i / patches)]));
  const share = view.quantity.unit === "share" && !view.quantity.signed;
  const shares = share ? npy(members.get(`views/${index}/shares.npy`)).values : null;
  const apart = share && facts.prompt.separators ? members.get(`views/${index}/separators.npy`) : null;
  const separators = apart ? npy(apart).values : null;
  const parts = view.parts ? npy(members.get(`views/${index}/parts.npy`)).values : null;
  if (parts && parts.length !== count * view.parts.length) throw new Error(`got ${parts.length} parts in ${view.name}`);
  return {
    name: view.name, axes: view.axes, shape, values, shares, separators, parts, partNames: view.parts ?? [], bound: view.error_bound,
    quantity: view.quantity,
  };
}

// In float32: every product is rounded before the next.
const VALUES = {
  "sqrt-u8": (stored, scale) => Math.fround(stored * stored * scale),
  "linear-u8": (stored, scale) => Math.fround(stored * scale),
  "signed-u8": (stored, scale) => Math.fround((stored - 128) * scale),
  float16: (stored) => stored,
  float32: (stored) => stored,
};

// "Maps in blocks": which block each patch of a grid lies in, how many patches each has, how many patches are kept.
function blocksOf(grid) {
  const across = Math.ceil(grid.cols / 4);
  const of = Array.from({ length: grid.rows * grid.cols }, (_, i) =>
    Math.floor(i / grid.cols / 4) * across + Math.floor((i % grid.cols) / 4));
  const members = new Array(Math.ceil(grid.rows / 4) * across).fill(0);
  for (const block of of) members[block] += 1;
  return { of, members, kept: Math.min(8, of.length) };
}

function unfolded(codes, scales, places, largest, grids) {
  const values = [];
  let block = 0;
  let kept = 0;
  for (const scale of scales) {
    for (const own of grids.map(blocksOf)) {
      const others = [...own.members];
      const at = places.slice(kept, kept + own.kept);
      const most = largest.slice(kept, kept + own.kept);
      for (const place of at) others[own.of[place]] -= 1;
      const even = others.map((count, i) =>
        Math.min(most[most.length - 1], Math.fround(Math.fround(codes[block + i] * scale) / Math.max(1, count))));
      const map = own.of.map((i) => even[i]);
      at.forEach((place, i) => { map[place] = most[i]; });
      values.push(...map);
      block += own.members.length;
      kept += own.kept;
    }
  }
  return Float32Array.from(values);
}

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

// Where every patch begins and ends, taken back through the steps in exact rationals that are rounded once.
function rectangles(grid, image) {
  const axis = (size, sizeOf, offsetOf, count) => {
    const before = [BigInt(size), ...grid.steps.map((step) => BigInt(step[sizeOf]))];
    const back = (number, isEnd) => {
      let place = [BigInt(number * grid.patch_px), 1n];
      for (let i = grid.steps.length; i > 0; i--) {
        const step = grid.steps[i - 1];
        const moved = BigInt(step[offsetOf]);
        if (step.op === "resize") place = times(place, [before[i - 1], before[i]]);
        else if (step.op === "crop") place = plus(place, [moved, 1n]);
        else if (step.op === "pad") place = plus(place, [-moved, 1n]);
        else if (moved > 0n) {
          const kept = before[i] / ((before[i - 1] - before[i]) / moved);
          const tiles = isEnd ? -floor(-place[0], place[1] * kept) - 1n : floor(place[0], place[1] * kept);
          place = plus(place, [tiles * moved, 1n]);
        }
      }
      return rounded(place);
    };
    return Array.from({ length: count }, (_, n) => [back(n, false), back(n + 1, true)]);
  };
  const xs = axis(image.width_px, "width_px", "left_px", grid.cols);
  const ys = axis(image.height_px, "height_px", "top_px", grid.rows);
  return ys.flatMap(([top, bottom]) => xs.flatMap(([left, right]) => [left, top, right, bottom]));
}
const floor = (over, under) => over / under - (over % under < 0n ? 1n : 0n);
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
    "<u2": [2, (at) => view.getUint16(at, true)],
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
  const { facts, positions, rects, expected, views, texts } = await readRecord(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)));
  return {
    facts, positions, rects: Array.from(rects), expected, texts,
    views: views.map((view) => ({
      ...view, values: Array.from(view.values), shares: view.shares && Array.from(view.shares),
      parts: view.parts && Array.from(view.parts), separators: view.separators && Array.from(view.separators),
    })),
  };
}
