// What heads are listed by, on plain numbers.

// The entropy of the connected components (of 8 neighbours) of the patches above a map's mean, in nats: 0 for one spot,
// infinite for a flat map; as llava_eval/criteria/localization.py has it.
function spatialEntropy(values, rows, cols) {
  let [sum, most] = [0, 0];
  for (const own of values) {
    sum += own;
    most = Math.max(most, Math.abs(own));
  }
  const floor = sum / values.length + 1e-12 * most;
  const left = Uint8Array.from(values, (own) => own > floor);
  const sizes = [];
  const found = new Int32Array(values.length);
  for (let first = 0; first < left.length; first++) {
    if (!left[first]) continue;
    let count = 0;
    const take = (at) => { left[at] = 0; found[count++] = at; };
    take(first);
    for (let i = 0; i < count; i++) {
      const [row, col] = [Math.floor(found[i] / cols), found[i] % cols];
      for (let r = Math.max(0, row - 1); r <= Math.min(rows - 1, row + 1); r++) {
        for (let c = Math.max(0, col - 1); c <= Math.min(cols - 1, col + 1); c++) if (left[r * cols + c]) take(r * cols + c);
      }
    }
    sizes.push(count);
  }
  const total = sizes.reduce((so, own) => so + own, 0);
  return total ? Math.abs(sizes.reduce((so, own) => so - (own / total) * Math.log(own / total), 0)) : Infinity;
}

// How alike two maps are whatever their sums, -1 to 1: the cosine of the angle between them.
function likeness(one, other) {
  let [both, first, second] = [0, 0, 0];
  for (let i = 0; i < one.length; i++) {
    both += one[i] * other[i];
    first += one[i] * one[i];
    second += other[i] * other[i];
  }
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
