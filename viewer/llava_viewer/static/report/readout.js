// The patch under the pointer or the arrow keys, told in words.
const cursor = byId("cursor");
let patch = null;
// The patch that the line tells of: the last one, also when the pointer has left it, so that the line is of the shown map.
let told = null;
// Where the keys began to move with Shift held.
let anchor = null;

function readPatch() {
  cursor.classList.toggle("on", patch !== null);
  told = patch ?? told;
  if (!told || !shown) return;
  const { row, col } = told;
  const [x, y] = corner(row, col);
  cursor.setAttribute("x", x);
  cursor.setAttribute("y", y);
  const share = shown.map.values[row * cols + col];
  const even = evenShare(shown.map) > 0 ? `, ${timesEven(share, shown.map)} an even spread` : "";
  byId("readout").textContent = `Row ${row}, column ${col}: ${percent(share)} of the attention${even}`;
}

// Where a pointer is on the image, in its px, and the patch there; null beside the grid.
const pointOf = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(stage.getScreenCTM().inverse());
function patchAt(point) {
  const col = Math.floor((point.x - gridX0) / patchWidth);
  const row = Math.floor((point.y - gridY0) / patchHeight);
  return row >= 0 && col >= 0 && row < rows && col < cols ? { row, col } : null;
}

stage.addEventListener("pointermove", (event) => {
  patch = patchAt(pointOf(event));
  readPatch();
});
stage.addEventListener("pointerleave", () => { patch = null; readPatch(); });
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
stage.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (!step) return;
  event.preventDefault();
  const from = patch || { row: Math.floor(rows / 2), col: Math.floor(cols / 2) };
  anchor = event.shiftKey ? anchor ?? from : null;
  patch = {
    row: Math.min(rows - 1, Math.max(0, from.row + step[0])),
    col: Math.min(cols - 1, Math.max(0, from.col + step[1])),
  };
  readPatch();
});
drawers.push(readPatch);
