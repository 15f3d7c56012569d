(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("js");
  const list = byId("runs");
  const runs = [...list.children];
  const numeric = new Set(["tokens", "share"]);
  const falling = new Set(["tokens", "share", "date"]);
  const fields = ["q", "model", "view", "share", "sort"].map(byId).filter(Boolean);
  const preset = Object.fromEntries(fields.map((field) => [field.id, field.value]));
  const value = (id) => byId(id)?.value ?? "";

  function show() {
    const words = value("q").toLowerCase().split(/\s+/).filter(Boolean);
    const [model, view, least] = [value("model"), value("view"), +value("share") / 100];
    let count = 0;
    for (const run of runs) {
      const { search, share } = run.dataset;
      run.hidden = !(
        words.every((word) => search.includes(word)) && (!model || run.dataset.model === model) &&
        (!view || run.dataset.view === view) && +share >= least
      );
      count += run.hidden ? 0 : 1;
    }
    byId("shareout").textContent = `${value("share")}\u00a0%`;
    byId("shown").textContent = `${count} of ${runs.length} shown`;
    byId("none").hidden = count > 0 || runs.length === 0;
  }

  // Numbers and dates start with the largest; everything else with the first letter.
  let sorted = "name false";
  function sort() {
    const key = value("sort");
    const reverse = byId("order").getAttribute("aria-pressed") === "true";
    if (sorted === `${key} ${reverse}`) return;
    sorted = `${key} ${reverse}`;
    const rising = numeric.has(key)
      ? (a, b) => a.dataset[key] - b.dataset[key]
      : (a, b) => a.dataset[key].localeCompare(b.dataset[key], undefined, { numeric: true });
    const sign = falling.has(key) !== reverse ? -1 : 1;
    list.append(...[...runs].sort((a, b) => sign * rising(a, b)));
  }

  // The address holds what is shown, so that a link opens the same list.
  function remember() {
    const state = new URLSearchParams();
    for (const field of fields) if (field.value !== preset[field.id]) state.set(field.id, field.value);
    if (byId("order").getAttribute("aria-pressed") === "true") state.set("order", "reverse");
    history.replaceState(null, "", `#${state}`);
  }
  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      field.value = state.get(field.id) ?? preset[field.id];
      if (field.value === "" && preset[field.id] !== "") field.value = preset[field.id];
    }
    byId("order").setAttribute("aria-pressed", state.get("order") === "reverse");
    update();
  }
  function update() {
    sort();
    show();
  }

  const form = document.querySelector(".controls");
  form.addEventListener("input", () => { update(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    history.replaceState(null, "", "#");
    recall();
  });
  byId("order").addEventListener("click", (event) => {
    event.target.setAttribute("aria-pressed", event.target.getAttribute("aria-pressed") !== "true");
    update();
    remember();
  });
  addEventListener("hashchange", recall);

  const tray = byId("tray");
  const boxes = () => [...document.querySelectorAll(".compare:checked")];
  function gather() {
    const chosen = boxes().map((box) => box.closest(".run").dataset);
    const pictures = new Set(chosen.map((data) => data.picture));
    tray.hidden = chosen.length === 0;
    const fits = pictures.size === 1 && chosen.length >= 2 && chosen.length <= 4;
    byId("command").textContent = fits
      ? `llava-viewer compare ${chosen.map((data) => data.argument).join(" ")} -o compare.html` : "";
    byId("traytext").textContent =
      pictures.size > 1 ? "These runs are on different pictures or grids: choose runs on one."
        : chosen.length < 2 ? "Choose one to three more runs on the same picture."
        : chosen.length > 4 ? "Up to four runs can be compared: choose fewer."
        : "Run this in the folder of this page:";
  }
  list.addEventListener("change", gather);
  byId("clear").addEventListener("click", () => {
    for (const box of boxes()) box.checked = false;
    gather();
  });
  // A browser may put back earlier choices when it reloads or goes back.
  addEventListener("pageshow", () => { gather(); recall(); });
  recall();
})();
