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

// Of one word's heads [{share, entropy}] the `most` of least entropy among those that read as much of the image as the mean
// head (of few the half): 1 for each, and where several tie for the last places an equal part of these.
function firstAmong(heads, most) {
  const mean = heads.reduce((sum, one) => sum + one.share, 0) / heads.length;
  const kept = heads.map((one) => one.share >= mean - 1e-12);
  const order = heads.filter((_, at) => kept[at]).map((one) => one.entropy).sort((a, b) => a - b);
  const count = Math.min(most, Math.ceil(order.length / 2));
  const last = order[count - 1];
  const before = order.filter((own) => own < last - 1e-9).length;
  const tied = order.filter((own) => own >= last - 1e-9 && own <= last + 1e-9).length;
  return heads.map(({ entropy }, at) => {
    if (!kept[at] || entropy > last + 1e-9) return 0;
    return entropy < last - 1e-9 ? 1 : (count - before) / tied;
  });
}
