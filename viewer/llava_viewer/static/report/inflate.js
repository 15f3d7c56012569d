// A zlib stream of some hundred bytes, at once: a DecompressionStream takes a millisecond for each. As RFC 1951 has it.
const codesOfLengths = (lengths) => {
  const count = new Uint16Array(17);
  for (const own of lengths) count[own]++;
  count[0] = 0;
  const first = new Uint16Array(17);
  for (let i = 1; i < 16; i++) first[i + 1] = first[i] + count[i];
  const symbols = new Uint16Array(lengths.length);
  lengths.forEach((own, symbol) => { if (own) symbols[first[own]++] = symbol; });
  return { count, symbols };
};
const inRuns = (...runs) => runs.flatMap(([count, own]) => new Array(count).fill(own));
const FIXED = [codesOfLengths(inRuns([144, 8], [112, 9], [24, 7], [8, 8])), codesOfLengths(inRuns([30, 5]))];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

// The `size` bytes that a stream stands for.
function unpacked(data, size) {
  const out = new Uint8Array(size);
  let [at, end, bits, held] = [2, 0, 0, 0];
  const take = (count) => {
    for (; held < count; held += 8) bits |= data[at++] << held;
    const own = bits & ((1 << count) - 1);
    bits >>>= count;
    held -= count;
    return own;
  };
  const read = ({ count, symbols }) => {
    let [code, first, index] = [0, 0, 0];
    for (let length = 1; length < 16; length++) {
      code |= take(1);
      if (code - first < count[length]) return symbols[index + code - first];
      index += count[length];
      first = (first + count[length]) << 1;
      code <<= 1;
    }
    return 256;
  };
  const tables = () => {
    const [literals, distances, count] = [take(5) + 257, take(5) + 1, take(4) + 4];
    const own = new Array(19).fill(0);
    for (let i = 0; i < count; i++) own[ORDER[i]] = take(3);
    const codes = codesOfLengths(own);
    const lengths = [];
    while (lengths.length < literals + distances) {
      const symbol = read(codes);
      if (symbol < 16) lengths.push(symbol);
      else if (symbol === 16) lengths.push(...inRuns([3 + take(2), lengths.at(-1)]));
      else lengths.push(...inRuns([symbol === 17 ? 3 + take(3) : 11 + take(7), 0]));
    }
    return [codesOfLengths(lengths.slice(0, literals)), codesOfLengths(lengths.slice(literals))];
  };
  for (let last = 0; !last && at < data.length;) {
    last = take(1);
    const kind = take(2);
    if (!kind) {
      const length = data[at] | (data[at + 1] << 8);
      out.set(data.subarray(at + 4, at + 4 + length), end);
      [at, end, bits, held] = [at + 4 + length, end + length, 0, 0];
      continue;
    }
    const [literals, distances] = kind === 1 ? FIXED : tables();
    for (let symbol = read(literals); symbol !== 256; symbol = read(literals)) {
      if (symbol < 256) {
        out[end++] = symbol;
        continue;
      }
      const i = symbol - 257;
      const more = Math.max(0, (i >> 2) - 1);
      const length = i === 28 ? 258 : (i < 8 ? 3 + i : 3 + ((4 + (i & 3)) << more)) + take(i === 28 ? 0 : more);
      const j = read(distances);
      const far = Math.max(0, (j >> 1) - 1);
      const back = (j < 4 ? 1 + j : 1 + ((2 + (j & 1)) << far)) + take(far);
      for (const until = end + length; end < until; end++) out[end] = out[end - back];
    }
  }
  return out;
}
