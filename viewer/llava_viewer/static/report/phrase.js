// Several tokens at once: the pieces of a word, which are chosen together, or words that are taken one after the other, by
// Shift and a click or by selecting their text. Their maps become one, as llava_wire/record.py's `phrase` has it.
const phraseBox = byId("phrase");
const isMaximum = (take) => take.tokens.length > 1 && take.how === "max";
function wordKeys(key) {
  const { w } = byId(key)?.dataset ?? {};
  return w ? tokenKeys.filter((one) => byId(one).dataset.w === w) : [key];
}

// The text of tokens as the answer has it; "…" stands for what is left out.
function phraseText(tokens) {
  let text = "";
  let before = null;
  for (const key of tokens) {
    const label = desk.querySelector(`.tok[for="${key}"]`);
    const at = tokenKeys.indexOf(key);
    const gap = before !== null && at !== before + 1 ? " … " : label?.previousSibling?.nodeValue === " " ? " " : "";
    text += (text && gap) + wordOf(key);
    before = at;
  }
  return text;
}
const phraseLines = (take) => (take.view.whole || take.tokens.length === 1 ? [] : [isMaximum(take)
  ? `At each patch the largest of ${take.tokens.length} tokens; shares of the whole map are their mean.`
  : `Mean of the maps of ${take.tokens.length} tokens.`]);

function choosePhrase(keys) {
  const whole = new Set(keys.filter((key) => key[0] === keys[0][0]).flatMap(wordKeys));
  choice.phrase = tokenKeys.filter((key) => whole.has(key));
  byId(choice.phrase[0]).checked = true;
  remember();
  show();
}
function alone(key) {
  choice.phrase = [];
  byId(key).checked = true;
  remember();
  show();
}
// A word is chosen whole; again, or another of its pieces, shows that piece alone.
function takeWord(key) {
  const word = wordKeys(key);
  if (word.length > 1 && String(word) === String(choice.phrase)) return (choice.phrase = []);
  choice.phrase = word;
  byId(word[0]).checked = true;
}
function toggleWord(key) {
  const { tokens } = currentTake();
  const rest = tokens.filter((one) => !wordKeys(key).includes(one));
  if (rest.length === tokens.length) return choosePhrase([key, ...tokens]);
  if (rest.length) choosePhrase(rest);
}
function addWord() {
  const { tokens } = currentTake();
  const keys = walk();
  const next = keys[keys.indexOf(tokens.at(-1)) + 1];
  if (next) choosePhrase([...tokens, next]);
}
function dropWord() {
  toggleWord(currentTake().tokens.at(-1));
}
byId("more").addEventListener("click", addWord);

document.addEventListener("click", (event) => {
  const label = event.target.closest?.("label[for]");
  const key = label?.htmlFor;
  if (!tokenKeys.includes(key)) return;
  const { tokens } = currentTake();
  if (event.shiftKey || event.ctrlKey || event.metaKey) {
    event.preventDefault();
    toggleWord(key);
  } else if (label.closest(".gallery") || (byId(key).checked && tokens.length > 1)) {
    event.preventDefault();
    alone(key);
  }
});
// Shift and a click choose here, and select no text.
document.addEventListener("mousedown", (event) => {
  if (event.shiftKey && event.target.closest?.(".tok")) event.preventDefault();
});
let selecting = 0;
function takeSelection() {
  const selection = getSelection();
  const ends = [selection.anchorNode, selection.focusNode].map((node) => (node?.closest ? node : node?.parentElement)?.closest(".words"));
  if (selection.isCollapsed || !ends[0] || ends[0] !== ends[1]) return;
  const range = selection.getRangeAt(0);
  const keys = all(".tok", ends[0]).filter(({ firstChild }) => {
    const own = document.createRange();
    own.setStart(firstChild, 0);
    own.setEnd(firstChild, firstChild.length);
    return range.compareBoundaryPoints(Range.END_TO_START, own) < 0 && range.compareBoundaryPoints(Range.START_TO_END, own) > 0;
  }).map((label) => label.htmlFor);
  if (keys.length > 1) choosePhrase(keys);
}
document.addEventListener("selectionchange", () => {
  clearTimeout(selecting);
  selecting = setTimeout(takeSelection, 200);
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.defaultPrevented && currentTake().tokens.length > 1) alone(currentToken());
});

// What the card says of several tokens: each with its probability, and a way to its own map.
function drawPhrase(take) {
  const several = take.tokens.length > 1 && !take.view.whole;
  byId("head").hidden = several;
  phraseBox.replaceChildren();
  if (!several) return;
  const list = element("ol", { className: "rank" });
  for (const key of take.tokens) {
    const told = document.createElement("template");
    told.innerHTML = heads.get(key) ?? "";
    const numbers = all(".hint:first-of-type b", told.content).map((one) => one.textContent);
    const button = element("button", { type: "button", onclick: () => alone(key) });
    button.append(element("bdi", { textContent: wordOf(key) }), ...numbers.map((textContent) => element("b", { textContent })));
    const item = document.createElement("li");
    item.append(button);
    list.append(item);
  }
  const ways = element("p", { className: "hint" });
  ways.append(`${take.tokens.length} tokens, at each patch the `);
  for (const how of ["mean", "max"]) {
    const button = element("button", { type: "button", textContent: how === "max" ? "largest" : how });
    button.setAttribute("aria-pressed", take.how === how);
    button.onclick = () => {
      choice.how = how;
      remember();
      show();
    };
    ways.append(button, " ");
  }
  ways.append("of their maps. One alone, with its probability, and without the image:");
  phraseBox.append(element("h2", { textContent: phraseText(take.tokens) }), ways, list);
}
