// The bars of image shares under the words follow the chosen layer and head, and so does what the answer's words have usually.
const usualTexts = new Map(all(".card .usual").map((own) => [own, own.textContent]));
function tellUsual({ view, layer, head }, shares) {
  for (const [place, text] of usualTexts) place.textContent = text;
  const place = desk.querySelector(`.card .${view.key} .usual`);
  if (!place || !shares) return;
  const counted = words().map((token) => shares[tokenKeys.indexOf(token)]);
  const mean = counted.reduce((sum, own) => sum + own, 0) / counted.length;
  place.textContent = `${percent(mean)} in ${slotName(view, layer, head)}`;
}

let barsOf = "";
async function drawBars({ take }) {
  const { view, layer, head } = take;
  const cells = cellsOf(view, layer, head);
  const follows = view.share !== false && !view.whole && cells.length < view.cells;
  desk.classList.toggle("follows", follows);
  const key = follows ? [view.key, layer, head].join() : "";
  if (key === barsOf) return;
  if (!follows) {
    barsOf = "";
    return tellUsual(take, null);
  }
  const shares = await Promise.all(tokenKeys.map(async (token) => {
    const numbers = await cellNumbers(view, cells, token);
    return numbers.reduce((sum, one) => sum + one[2], 0) / numbers.length;
  }));
  if (shown.take !== take) return;
  barsOf = key;
  tellUsual(take, shares);
  tokenKeys.forEach((token, at) => {
    const part = `${Math.min(100, 5 * Math.round(20 * shares[at]))}%`;
    for (const label of all(`.tok[for="${token}"]`, desk)) label.style.setProperty("--own", part);
  });
}
drawers.push(drawBars);
