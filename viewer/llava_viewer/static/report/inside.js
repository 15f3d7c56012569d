// What lies inside a box of the image: the sums of llava_wire/find.py, on plain numbers.

// How much of each of `count` equal steps from `low` to `high` lies between two ends, 0 to 1.
function overlaps(low, high, count, start, end) {
  const step = (high - low) / count;
  return Array.from({ length: count }, (_, i) =>
    Math.max(0, Math.min(low + (i + 1) * step, end) - Math.max(low + i * step, start)) / step);
}

// The patches of a grid [x0, y0, x1, y1] that a box covers: [[patch, how much of it], ...], and the part of an even map
// that lies there.
function coverOf(box, grid, rows, cols) {
  const across = overlaps(grid[0], grid[2], cols, box[0], box[2]);
  const down = overlaps(grid[1], grid[3], rows, box[1], box[3]);
  const patches = [];
  let sum = 0;
  down.forEach((high, row) => across.forEach((wide, col) => {
    if (high * wide > 0) patches.push([row * cols + col, high * wide]);
    sum += high * wide;
  }));
  return { patches, even: sum / (rows * cols) };
}

// What a map [patch] has there: its sum inside, the part of its positive values inside, and that against an even map.
function insideOf(values, cover) {
  let [inside, positive, whole] = [0, 0, 0];
  for (const [patch, part] of cover.patches) {
    inside += part * values[patch];
    positive += part * Math.max(0, values[patch]);
  }
  for (const own of values) whole += Math.max(0, own);
  const ofImage = whole > 0 ? positive / whole : 0;
  return { inside, ofImage, timesEven: ofImage / cover.even };
}

// Words by what they spent inside, most first; earlier words first where that is equal.
const wordsInOrder = (found) => [...found].sort((a, b) => b.inside - a.inside || a.at - b.at);

// Heads, each at the word where inside times the part of its map is largest; `found` is one list of heads for each word.
function headsInOrder(found) {
  const best = [];
  for (const heads of found) {
    heads.forEach((one, cell) => {
      const score = one.inside * one.ofImage;
      if (!best[cell] || score > best[cell].score) best[cell] = { ...one, cell, score };
    });
  }
  return best.sort((a, b) => b.score - a.score || a.layer - b.layer || a.head - b.head);
}
