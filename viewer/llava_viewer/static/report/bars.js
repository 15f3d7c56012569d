// The bars of image shares under the words follow the chosen layer and head.
let barsOf = "";
async function drawBars({ take }) {
  const { view, layer, head } = take;
  const cells = cellsOf(view, layer, head);
  const follows = view.share !== false && !view.whole && cells.length < view.cells;
  desk.classList.toggle("follows", follows);
  const key = [view.key, layer, head].join();
  if (!follows || key === barsOf) return;
  const shares = await Promise.all(tokenKeys.map(async (token) => {
    const numbers = await cellNumbers(view, cells, token);
    return numbers.reduce((sum, one) => sum + one[2], 0) / numbers.length;
  }));
  if (shown.take !== take) return;
  barsOf = key;
  tokenKeys.forEach((token, at) => {
    const part = `${Math.min(100, 5 * Math.round(20 * shares[at]))}%`;
    for (const label of all(`.tok[for="${token}"]`, desk)) label.style.setProperty("--own", part);
  });
}
drawers.push(drawBars);
