// Pages of several answers: the script shows one of them. The others are taken out before its other parts look at the
// page, and the ids of the chosen one lose their prefix, so that these meet a page of one answer; another answer starts
// the page again, with its number in the address.
const answerInputs = [...document.querySelectorAll('input[name="n"]')];
const answerOf = (state) => {
  const name = state.includes("=") ? new URLSearchParams(state.slice(1)).get("n") : null;
  return answerInputs.find((input) => input.dataset.v === name);
};
const answerInput = answerOf(opens()) ?? answerInputs.find((input) => input.defaultChecked);
const answerNumber = answerInput.dataset.v;
const answerPrefix = answerNumber === "0" ? "" : `${answerInput.id}-`;
answerInput.checked = true;
for (const reader of document.querySelectorAll("[data-answer]")) {
  if (reader.dataset.answer === answerInput.id) reader.dataset.own = "1";
  else reader.remove();
}
const withoutPrefix = (text) => text.replaceAll(new RegExp(`(^|[\\s"#])${answerPrefix}`, "g"), "$1");
// What is held as text has the quotes of its own text as entities: nothing but attributes is met.
const heldName = new RegExp(` (?:id|for|name|href|aria-\\w+)="#?${answerPrefix}[^"]*"`, "g");
function unprefixed(root) {
  for (const one of root.querySelectorAll("*")) {
    for (const name of ["id", "for", "name", "href", "aria-labelledby", "aria-describedby"]) {
      if (one.hasAttribute(name)) one.setAttribute(name, withoutPrefix(one.getAttribute(name)));
    }
    if (one.localName === "template") unprefixed(one.content);
    if (one.localName === "noscript") one.textContent = one.textContent.replace(heldName, withoutPrefix);
  }
}
const answerReader = document.querySelector("[data-answer]");
if (answerPrefix) unprefixed(answerReader);
// A browser may put back what was chosen in another answer.
for (const input of answerReader.querySelectorAll("input")) input.checked = input.defaultChecked;
// Whoever chose by the keyboard goes on there.
if (history.state?.answers) answerInput.focus({ preventScroll: true });

function startWith(input) {
  clearTimeout(pending);
  const state = new URLSearchParams(address().slice(1));
  state.set("n", input.dataset.v);
  for (const name of ["t", "pa", "pb"]) state.delete(name); // words of the answer that is left
  history.replaceState({ answers: true }, "", `#${state.toString().replaceAll("%2C", ",")}`);
  location.reload();
}
document.addEventListener("change", (event) => {
  if (event.target.name !== "n") return;
  event.stopImmediatePropagation();
  startWith(event.target);
});
addEventListener("hashchange", (event) => {
  const input = answerOf(location.hash) ?? answerInputs[0];
  if (!location.hash.includes("=") || input === answerInput) return;
  event.stopImmediatePropagation();
  location.reload();
});
