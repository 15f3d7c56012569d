// Starts the page: what the address asks for, then every choice as it is made.
document.addEventListener("change", (event) => {
  const name = event.target.name;
  if (name === "theme" || name === "sp") return mark();
  if (!["t", "v", "m", "p", "s", "b"].includes(name)) return;
  if (name === "t") takeWord(event.target.id);
  remember();
  show();
  if (name === "m" || name === "p") return;
  // At once: a scroll that glides is drawn again and again beside the maps.
  if (name === "t") desk.querySelector(`.tok[for="${event.target.id}"]`)?.scrollIntoView({ block: "nearest", behavior: "instant" });
});
byId("opacity").addEventListener("input", (event) => {
  desk.style.setProperty("--heat", event.target.value / 100);
  remember();
});
function restore() {
  recall();
  mark();
  desk.style.setProperty("--heat", byId("opacity").value / 100);
  show();
  drawCompare();
  // A long answer scrolls by itself: to the chosen word.
  const [label] = chosenLabels.filter((one) => one.closest(".long"));
  if (label) label.parentNode.scrollTop += label.getBoundingClientRect().top - label.parentNode.getBoundingClientRect().top - 40;
}
addEventListener("hashchange", () => {
  clearTimeout(pending);
  if (location.hash.includes("=")) restore();
});
// A browser may put back an earlier choice when it reloads or goes back.
addEventListener("pageshow", (event) => { if (event.persisted || picked("t")?.id !== shown?.take.token) show(); });
restore();
