// A box of the image and what looked there: drawn by a click, a drag or the keys, kept in the address, answered by
// shaded words and two lists.
const TOP_INSIDE = 5;
const DRAG_PX = 5;
const boxMark = byId("boxmark");
const boxPanel = byId("inside");
choice.box = null;

// [x0, y0, x1, y1] within the image; null where nothing of it lies on the grid that the model saw.
function within(corners) {
  const most = [picture.width, picture.height, picture.width, picture.height];
  const box = corners.map((own, i) => Math.min(most[i], Math.max(0, Math.round(100 * own) / 100)));
  if (!(box[0] < box[2] && box[1] < box[3])) return null;
  return coverOf(box, [gridX0, gridY0, gridX1, gridY1], rows, cols).patches.length ? box : null;
}
const aroundPatches = (one, other) => within([
  ...corner(Math.min(one.row, other.row), Math.min(one.col, other.col)),
  ...corner(Math.max(one.row, other.row) + 1, Math.max(one.col, other.col) + 1),
]);
// Whole px, as they are read off an image, and never less than one of them.
const aroundPoints = (one, other) => within([
  Math.floor(Math.min(one.x, other.x)), Math.floor(Math.min(one.y, other.y)),
  Math.ceil(Math.max(one.x, other.x)), Math.ceil(Math.max(one.y, other.y)),
]);

stateParts.push({
  write: (state) => { if (choice.box) state.set("box", choice.box.join(",")); },
  read: (state) => {
    const numbers = (state.get("box") ?? "").split(",").map(Number);
    choice.box = numbers.length === 4 && numbers.every(Number.isFinite) ? within(numbers) : null;
  },
});

function setBox(box) {
  choice.box = box;
  remember();
  return drawBox();
}
// The same patch again frees it.
const togglePatch = (one) => {
  const box = aroundPatches(one, one);
  return setBox(String(box) === String(choice.box) ? null : box);
};

// The answer's ordinary words, which alone are ranked.
const ordinaryKeys = () => tokenKeys.filter((key) => key.startsWith("t") && !specialKeys.has(key));
const wordMaps = remembered(3, async (key, view, layer, head) => {
  const found = [];
  const rest = rests();
  for (const token of ordinaryKeys()) {
    found.push(await mapOf(view, layer, head, token));
    await rest();
  }
  return found;
});

async function wordsInside(cover, { view, layer, head }) {
  if (view.whole) return [];
  const maps = await wordMaps([view.key, layer, head].join("~"), view, layer, head);
  return wordsInOrder(ordinaryKeys().map((token, at) => ({ token, at, ...insideOf(maps[at].values, cover) })));
}

let ownViews = () => views;
const keepsHeads = (view) => !view.whole && (view.pairs.length > 0 || (view.layers.length > 0 && view.heads.length > 0));
const viewOfHeads = (first) => [first, ...ownViews()].find(keepsHeads);

const headsInside = remembered(2, async (key, cover, view) => {
  const found = [];
  const rest = rests();
  for (const token of ordinaryKeys()) {
    await rest();
    const maps = await cellMaps(view, allCells(view), token);
    found.push(maps.map((map, cell) => {
      const [layer, head] = cellName(view, cell);
      return { token, layer, head, ...insideOf(map.values, cover) };
    }));
  }
  return headsInOrder(found);
});

// What was spent inside, as a text in a view's unit.
let spentText = (view, own) => percent(own);
const measureOf = (view) => (view.share === false ? view.unit || "sum" : "of all attention");

// What was last answered, for figures and tables: {box, view, words}.
let answered = null;
let boxTurn = 0;
async function drawBox({ heads = true } = {}) {
  const turn = ++boxTurn;
  const { box } = choice;
  desk.classList.toggle("boxed", Boolean(box));
  boxPanel.hidden = !box;
  if (!box || !shown) return freed(box);
  const sides = { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] };
  for (const rect of boxMark.children) for (const [name, own] of Object.entries(sides)) rect.setAttribute(name, own);
  const cover = coverOf(box, [gridX0, gridY0, gridX1, gridY1], rows, cols);
  const { take } = shown;
  const words = await wordsInside(cover, take);
  if (turn !== boxTurn) return;
  answered = { box, cover, view: take.view, words };
  shade(words);
  tellWords(take, words, cover);
  const view = viewOfHeads(take.view);
  byId("inside-heads-part").hidden = !view;
  byId("inside-no-heads").hidden = Boolean(view);
  byId("inside-by").textContent = view === take.view ? "at its best word" : `at its best word, in “${view?.name}”`;
  if (!heads || !view) return;
  const key = `${view.key} ${box}`, list = byId("inside-heads");
  if (list.dataset.of !== key) list.replaceChildren();  // heads of another box are not left standing meanwhile
  const found = await headsInside(key, cover, view);
  if (turn !== boxTurn) return;
  list.dataset.of = key;
  listed(list, found.slice(0, TOP_INSIDE).map((one) => ({
    name: `${slotName(view, one.layer, one.head)} “${wordOf(one.token).trim()}”`, view, one,
    on: take.view === view && take.layer === one.layer && take.head === one.head && String(take.tokens) === one.token,
    act: () => lookThrough(view, one),
  })));
}

function freed(box) {
  if (box) return;
  document.documentElement.classList.remove("asks");
  answered = null;
  shade([]);
}

// The word that spent most there has the full shade.
let isShaded = false;
function shade(words) {
  if (!isShaded && !words.length) return;
  isShaded = words.length > 0;
  const most = words.reduce((so, one) => Math.max(so, one.inside), 0);
  const part = new Map(words.map((one) => [one.token, most > 0 ? Math.max(0, one.inside) / most : 0]));
  for (const label of all(".tok", desk)) label.style.setProperty("--in", (part.get(label.htmlFor) ?? 0).toFixed(3));
}

function tellWords(take, words, cover) {
  const [x0, y0, x1, y1] = choice.box;
  const first = words.length ? `most by “${wordOf(words[0].token)}”` : take.view.whole
    ? "this view is one map for the whole answer; another one tells words apart" : "no word of the answer has a map";
  byId("inside-where").textContent =
    `${x0}, ${y0} to ${x1}, ${y1} px: ${first}. An even map would have ${percent(cover.even)} of its total here.`;
  byId("inside-words-part").hidden = !words.length;
  byId("inside-of").textContent = `${measureOf(take.view)} · of its map`;
  listed(byId("inside-words"), words.slice(0, TOP_INSIDE).map((one) => ({
    name: wordOf(one.token), view: take.view, one, on: take.tokens.includes(one.token), act: () => alone(one.token),
  })));
}

// Buttons that say the same stay, and with them the focus.
function listed(list, entries) {
  const told = entries.map(({ name, view, one }) => [name, spentText(view, one.inside), percent(one.ofImage)]);
  if (list.dataset.told !== JSON.stringify(told)) {
    list.dataset.told = JSON.stringify(told);
    list.replaceChildren(...told.map(([name, spent, part]) => {
      const button = element("button", { type: "button" });
      button.append(element("bdi", { textContent: name }), element("b", { textContent: spent }), element("i", { textContent: part }));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
  }
  all("button", list).forEach((button, at) => {
    button.setAttribute("aria-pressed", entries[at].on);
    button.onclick = entries[at].act;
  });
}

// The stage shows a head at its best word.
function lookThrough(view, { token, layer, head }) {
  byId(view.key).checked = true;
  byId(token).checked = true;
  choice.phrase = [];
  pick(layer, head);
}

let drawn = null; // where a drag began, and whether it is one yet
stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  drawn = { from: pointOf(event), x: event.clientX, y: event.clientY, dragged: false, before: choice.box };
});
stage.addEventListener("pointermove", (event) => {
  if (!drawn || !event.isPrimary) return;
  if (!drawn.dragged && Math.hypot(event.clientX - drawn.x, event.clientY - drawn.y) < DRAG_PX) return;
  if (!drawn.dragged) stage.setPointerCapture(event.pointerId);
  drawn.dragged = true;
  desk.classList.add("drawing");
  choice.box = aroundPoints(drawn.from, pointOf(event));
  drawBox({ heads: false });
});
function stopDrawing(event) {
  if (!drawn || !event.isPrimary) return;
  const { from, dragged, before } = drawn;
  drawn = null;
  desk.classList.remove("drawing");
  if (event.type === "pointercancel") return setBox(before);
  if (dragged) return setBox(aroundPoints(from, pointOf(event)));
  const here = patchAt(from);
  return here && togglePatch(here);
}
stage.addEventListener("pointerup", stopDrawing);
stage.addEventListener("pointercancel", stopDrawing);
stage.addEventListener("keydown", (event) => {
  if (STEPS[event.key] && event.shiftKey) setBox(aroundPatches(anchor, patch));
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  if (patch) togglePatch(patch);
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !choice.box) return;
  event.preventDefault();
  setBox(null);
});
byId("unbox").addEventListener("click", () => { setBox(null); stage.focus({ preventScroll: true }); });
drawers.push(() => drawBox());

// What figures and tables say of the box.
function boxLines() {
  if (!choice.box || !answered) return [];
  const own = insideOf(shown.map.values, answered.cover);
  const spent = answered.words.length ? `: ${spentText(answered.view, own.inside)} inside, ${percent(own.ofImage)} of its map` : "";
  return [`Box ${choice.box.join(", ")} px${spent}`];
}
