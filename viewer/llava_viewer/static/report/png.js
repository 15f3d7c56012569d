// Pictures of maps, made without a canvas: browsers that guard against fingerprints change what a canvas gives back.
const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(kind, data) {
  const out = new Uint8Array(data.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  out.set([...kind].map((letter) => letter.charCodeAt(0)), 4);
  out.set(data, 8);
  let crc = 0xffffffff;
  for (const byte of out.subarray(4, data.length + 8)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(data.length + 8, crc ^ 0xffffffff);
  return out;
}

// A zlib stream whose blocks are stored as they are.
function stored(data) {
  const out = [0x78, 0x01];
  for (let at = 0; at < data.length; at += 65535) {
    const part = data.subarray(at, at + 65535);
    const length = [part.length & 255, part.length >> 8];
    out.push(at + 65535 >= data.length ? 1 : 0, ...length, ...length.map((byte) => byte ^ 255), ...part);
  }
  let [a, b] = [1, 0];
  for (const byte of data) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return Uint8Array.from([...out, b >> 8, b & 255, a >> 8, a & 255]);
}

// Levels [row * cols] 0..255 as a PNG: grey, or with 256 colours and their opacities 0..255.
function pngUri(levels, colours, opacity) {
  const head = new Uint8Array(13);
  new DataView(head.buffer).setUint32(0, cols);
  new DataView(head.buffer).setUint32(4, rows);
  head.set([8, colours ? 3 : 0], 8);
  const lines = new Uint8Array(rows * (cols + 1));
  for (let row = 0; row < rows; row++) lines.set(levels.subarray(row * cols, (row + 1) * cols), row * (cols + 1) + 1);
  const parts = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), chunk("IHDR", head)];
  if (colours) parts.push(chunk("PLTE", Uint8Array.from(colours.flat())), chunk("tRNS", Uint8Array.from(opacity)));
  parts.push(chunk("IDAT", stored(lines)), chunk("IEND", new Uint8Array()));
  return `data:image/png;base64,${btoa(parts.map((part) => String.fromCharCode(...part)).join(""))}`;
}
