// Three steps for who opens a report for the first time. Where nothing can be kept (a frame without an origin, a browser that
// keeps nothing of files) they would come again with every page: there they wait until they are asked for. So they do where
// a page opens with what somebody chose, which they would cover on a phone.
const TOUR = [
  ["Choose a word", "The image shows what the model read when it wrote it; the bars under the words compare them."],
  ["Ask the image", "Click a patch, or draw a box: the words, and heads, that looked there are listed."],
  ["Before you believe a map", "The line with a sign in the card says whether it tells anything. “?” lists all keys."],
];
const SEEN = "llava-gaze tour";
const memory = (() => {
  try {
    localStorage.setItem(`${SEEN} test`, "1");
    localStorage.removeItem(`${SEEN} test`);
    return localStorage;
  } catch {
    return null;
  }
})();
function tour(step) {
  byId("tour")?.remove();
  if (!TOUR[step]) return memory?.setItem(SEEN, "seen");
  const box = element("section", { id: "tour", ariaLabel: `How to use this page, ${step + 1} of ${TOUR.length}` });
  const button = (textContent, onclick) => element("button", { type: "button", textContent, onclick });
  const [title, text] = TOUR[step];
  const last = step === TOUR.length - 1;
  const next = button(last ? "Done" : "Next", () => {
    tour(step + 1);
    byId("tour")?.querySelector("button").focus();
  });
  box.append(element("b", { textContent: `${step + 1}/${TOUR.length} ${title}` }), element("p", { textContent: text }), next);
  if (!last) box.append(button("Skip", () => tour(TOUR.length)));
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    tour(TOUR.length);
  });
  document.querySelector(".page").after(box);
}
const again = element("button", { type: "button", textContent: "Show the three steps", onclick: () => tour(0) });
byId("keys").append(again);
if (memory && memory.getItem(SEEN) !== "seen" && !opens()) tour(0);
