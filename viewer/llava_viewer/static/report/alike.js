// What heads are listed by, on plain numbers.

// The entropy of the connected components (of 8 neighbours) of the patches above a map's mean, in nats: 0 for one spot,
// infinite for a flat map; as llava_eval/criteria/localization.py has it.
function spatialEntropy(values, rows, cols) {
  const mean = values.reduce((sum, own) => sum + own, 0) / values.length;
  const floor = mean + 1e-12 * values.reduce((most, own) => Math.max(most, Math.abs(own)), 0);
  const left = new Set();
  values.forEach((own, i) => { if (own > floor) left.add(i); });
  const total = left.size;
  if (!total) return Infinity;
  let entropy = 0;
  for (const first of left) {
    left.delete(first);
    const found = [first];
    for (const at of found) {
      const [row, col] = [Math.floor(at / cols), at % cols];
      for (let r = Math.max(0, row - 1); r <= Math.min(rows - 1, row + 1); r++) {
        for (let c = Math.max(0, col - 1); c <= Math.min(cols - 1, col + 1); c++) if (left.delete(r * cols + c)) found.push(r * cols + c);
      }
    }
    const part = found.length / total;
    entropy -= part * Math.log(part);
  }
  return Math.abs(entropy);
}

// How alike two maps are whatever their sums, -1 to 1: the cosine of the angle between them.
function likeness(one, other) {
  let [both, first, second] = [0, 0, 0];
  one.forEach((own, i) => {
    both += own * other[i];
    first += own * own;
    second += other[i] * other[i];
  });
  return first > 0 && second > 0 ? both / Math.sqrt(first * second) : 0;
}
