// Views whose atlas has maps in blocks (llava_viewer/look/heatmap.py, block_atlas): a code for what is left of each block of
// 4 x 4 patches, and the largest patches singly. Only pages with such a view have this part.
const BLOCK = 4;
const blockOf = Int32Array.from({ length: rows * cols }, (_, i) =>
  Math.floor(i / cols / BLOCK) * Math.ceil(cols / BLOCK) + Math.floor((i % cols) / BLOCK));
const members = new Uint8Array(blockOf[blockOf.length - 1] + 1);
for (const own of blockOf) members[own]++;
for (const view of views) view.kept = +(byId(view.key).dataset.kept || 0);

const blockTable = remembered(Infinity, async (id, split) => {
  const data = await block(id);
  const count = data.byteLength / (8 + 2 * split);
  return {
    peaks: new Float32Array(data, 0, count), scales: new Float32Array(data, 4 * count, count),
    shares: new Uint16Array(data, 8 * count),
  };
});
const ofGreys = { cellMaps, cellNumbers };

cellNumbers = async (view, cells, token) => {
  if (!view.kept) return ofGreys.cellNumbers(view, cells, token);
  const { peaks, shares } = await blockTable(`n-${view.key}`, view.split);
  const first = mapNumber(view, token);
  return cells.map((cell) => {
    const own = [peaks[first + cell]];
    for (let i = 0; i < view.split; i++) own.push(shares[view.split * (first + cell) + i] / 65535);
    return own;
  });
};

cellMaps = async (view, cells, token) => {
  if (!view.kept) return ofGreys.cellMaps(view, cells, token);
  const numbers = await cellNumbers(view, cells, token);
  const row = await atlasLevels(`a-${view.key}-${rowKey(view, token)}`);
  const { scales } = await blockTable(`n-${view.key}`, view.split);
  const first = mapNumber(view, token);
  const data = new Float32Array(cells.length * blockOf.length);
  return cells.map((cell, i) => {
    const [max, ...shares] = numbers[i];
    const values = data.subarray(i * blockOf.length, (i + 1) * blockOf.length);
    lay(values, row, view, cell, max, scales[first + cell]);
    return { values, max, shares, view };
  });
};

// What is left of a block lies evenly on its other patches; none of them is above a patch that was larger.
const others = members.slice();
const even = new Float32Array(members.length);
function lay(values, row, { kept, cells }, cell, max, scale) {
  const plane = cells * kept;
  const first = cells * members.length + cell * kept;
  const pair = (number, i) => row[first + 2 * number * plane + i] | (row[first + (2 * number + 1) * plane + i] << 8);
  others.set(members);
  let least = Infinity;
  for (let i = 0; i < kept; i++) {
    others[blockOf[pair(0, i)]]--;
    least = Math.min(least, (max * pair(1, i)) / 65535);
  }
  for (let i = 0; i < even.length; i++) {
    even[i] = Math.min(least, Math.fround(scale * row[cell * members.length + i]) / Math.max(1, others[i]));
  }
  for (let i = 0; i < values.length; i++) values[i] = even[blockOf[i]];
  for (let i = 0; i < kept; i++) values[pair(0, i)] = (max * pair(1, i)) / 65535;
}
