// Pages of several grids: the script shows one of them. What belongs to the others is taken out of its sight before its
// other parts look at the page; a view on another grid starts the page again, with that view in the address.
const viewInputs = [...document.querySelectorAll('input[name="v"]')];
const gridOf = (input) => input.closest("fieldset").dataset.g;
const viewNamed = (hash) => {
  const name = hash.includes("=") ? new URLSearchParams(hash.slice(1)).get("v") : null;
  return viewInputs.find((input) => input.dataset.name === name);
};
const firstView = viewNamed(location.hash) ?? viewInputs.find((input) => input.checked) ?? viewInputs[0];
const shownGrid = gridOf(firstView);
firstView.checked = true;
const gridsStrip = firstView.closest(".grids");
gridsStrip.scrollLeft = firstView.closest("fieldset").offsetLeft - 3;
const ownStage = document.querySelector(`template[data-g="${shownGrid}"]`);
const isComposite = "composite" in ownStage.dataset;
for (const template of document.querySelectorAll("template[data-g]")) if (template !== ownStage) template.remove();
// Its picture and patterns get the names that the script knows.
for (const [name, suffix] of [
  ...["hatch", "hatchdark", "checker", "pk"].map((one) => [one, ownStage.dataset.own]), ["photo", ownStage.dataset.picture],
]) {
  const copy = document.getElementById(name + suffix).cloneNode(true);
  copy.id = name;
  if (name === "photo" && copy.hasAttribute("fill")) copy.setAttribute("fill", "url(#checker)");
  document.getElementById(name).replaceWith(copy);
}

function startOn(input) {
  clearTimeout(pending);
  const state = new URLSearchParams(address().slice(1));
  state.set("v", input.dataset.name);
  for (const name of ["pa", "pb", "box"]) state.delete(name); // kept maps and a box lie on the grid that is left
  history.replaceState(null, "", `#${state}`);
  location.reload();
}
// These come before the listeners of the other parts, which know nothing of another grid.
document.addEventListener("change", (event) => {
  if (event.target.name !== "v" || gridOf(event.target) === shownGrid) return;
  event.stopImmediatePropagation();
  startOn(event.target);
});
addEventListener("hashchange", (event) => {
  const input = viewNamed(location.hash);
  if (!input || gridOf(input) === shownGrid) return;
  event.stopImmediatePropagation();
  location.reload();
});
