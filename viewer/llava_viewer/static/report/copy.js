// A copy of the file that opens in the present state, with the script and without.
let isShown = () => true;
let liveOf = (input) => byId(input.id);
async function pageCopy() {
  await whole;
  const root = origin.cloneNode(true);
  root.removeAttribute("class");
  root.dataset.open = address();
  for (const input of all("input[id]", root)) {
    const own = liveOf(input);
    if (own && input.type !== "range") input.toggleAttribute("checked", own.checked);
  }
  // The script may have begun before the file was read to its end.
  const start = root.querySelector("#code").nextElementSibling;
  while (start.nextSibling) start.nextSibling.remove();
  for (const atlas of all('script[type="text/plain"]:not(#code, [data-answer] *)')) start.parentNode.append("\n", atlas.cloneNode(true));
  start.parentNode.append("\n");
  // What early.js made text of is put back as it was; no text of a page holds a control character.
  const held = all("noscript", root).map((block, at) => {
    const text = isShown(block) ? withSlot(block.textContent) : block.textContent;
    block.replaceWith(`\u0001${at}\u0001`);
    return text;
  });
  return `<!doctype html>\n${root.outerHTML}\n`.replace(/\u0001(\d+)\u0001/g, (_, at) => `${held[at]}</noscript>`);
}

// Without the script a single map is chosen among those of its view, where they have elements.
function withSlot(text) {
  const view = currentView();
  const cells = cellsOf(view, choice.layer, choice.head);
  const slot = `s${view.index}-${cells.length === 1 && view.cells > 1 ? cells[0] + 1 : 0}`;
  return text.replace(/(<input type="radio" name="(?:n\d+-)?v(\d+)s" id="(?:n\d+-)?([^"]+)")(?: checked)?/g, (whole, input, index, id) =>
    (index === view.index ? input + (id === slot ? " checked" : "") : whole));
}

byId("save-copy").addEventListener("click", async () => {
  download(`${fileName(...takeParts(shown.take))}.html`, "text/html;charset=utf-8", await pageCopy());
});
