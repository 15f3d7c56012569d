// How a row splits over images and grids: the lines of llava_viewer/pages/onto.py, for every choice of layer and head.
const ontoList = byId("onto");
const ontoLines = JSON.parse(ontoList.dataset.lines);
const perGrid = views.length / new Set(viewInputs.map(gridOf)).size;
// The record's own grids; composites come behind them.
const gridNumbers = [...new Set(ontoLines.flatMap(([, own]) => own))].sort((a, b) => a - b);
const patchesOf = (number) => ontoLines.find(([, own]) => own.length === 1 && own[0] === number)[2];

// The share on a grid of what is chosen, from the numbers of the same view there.
async function shareOn(number, take) {
  const found = await Promise.all(take.tokens.map((token) => tokenShareOn(number, take, token)));
  return found.reduce((sum, own) => sum + own, 0) / found.length;
}
async function tokenShareOn(number, { view, layer, head }, token) {
  const there = views[number * perGrid + (view.index % perGrid)];
  const cells = cellsOf(there, layer, head);
  if (there.cells === 1 || cells.length === there.cells) {
    const slot = `s${there.index}-0`;
    return slotFrames(slot).get(`${slot}-${rowKey(there, token)}`).shares[1];
  }
  const found = await cellNumbers(there, cells, token);
  return found.reduce((sum, numbers) => sum + numbers[2], 0) / found.length;
}

drawers.push(async ({ take, map }) => {
  ontoList.parentElement.hidden = map.view.share === false;
  if (map.view.share === false) return;
  const sums = await Promise.all(gridNumbers.map((number) => shareOn(number, take)));
  if (take !== shown.take) return;
  const total = sums.reduce((a, b) => a + b, 0);
  const patches = gridNumbers.reduce((sum, number) => sum + patchesOf(number), 0);
  ontoList.replaceChildren(...ontoLines.map(([name, own, count]) => {
    const share = own.reduce((sum, number) => sum + sums[number], 0);
    const over = total > 0 ? times((share * patches) / (total * count)) : "–";
    return element("li", { textContent: `${name}\t${percent(share)}\t${over}` });
  }));
});
