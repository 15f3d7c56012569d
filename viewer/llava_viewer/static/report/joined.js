// Several maps as one, patch by patch: the sums of llava_wire/record.py's `phrase`, on plain numbers.
function meanOf(lists) {
  const values = new Float32Array(lists[0].length);
  for (const list of lists) for (let i = 0; i < values.length; i++) values[i] += list[i] / lists.length;
  return values;
}

// A loop: `reduce` calls a function for each of a thousand patches.
function sumOf(values) {
  let sum = 0;
  for (const own of values) sum += own;
  return sum;
}

// The value of the largest size, the first of equal ones.
function largestOf(lists) {
  const values = Float32Array.from(lists[0]);
  for (const list of lists) list.forEach((own, i) => { if (Math.abs(own) > Math.abs(values[i])) values[i] = own; });
  return values;
}
