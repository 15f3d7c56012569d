(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("js");
  const list = byId("runs");
  const runs = [...list.children];
  const numeric = new Set(["tokens", "share", "needing"]);
  const falling = new Set(["tokens", "share", "needing", "date"]);
  const fields = ["q", "model", "view", "tag", "what", "share", "most", "sort"].map(byId).filter(Boolean);
  const preset = Object.fromEntries(fields.map((field) => [field.id, field.value]));
  const value = (id) => byId(id)?.value ?? "";

  function show() {
    const words = value("q").toLowerCase().split(/\s+/).filter(Boolean);
    const [model, view, tag, what] = ["model", "view", "tag", "what"].map(value);
    const [least, most] = [+value("share") / 100, +value("most") / 100];
    const kinds = {
      wrong: (run) => run.verdict === "wrong", right: (run) => run.verdict === "right",
      needs: (run) => +run.needing > 0, blind: (run) => run.needing === "0",
    };
    let count = 0;
    for (const run of runs) {
      const { search, share, tags } = run.dataset;
      run.hidden = !(
        words.every((word) => search.includes(word)) && (!model || run.dataset.model === model) &&
        (!view || run.dataset.view === view) &&
        (!tag || tags.split("\n").includes(tag)) && (!what || kinds[what](run.dataset)) && +share >= least && +share <= most
      );
      count += run.hidden ? 0 : 1;
    }
    for (const id of ["share", "most"]) byId(`${id}out`).textContent = `${value(id)}\u00a0%`;
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
    // On a phone these are folded away: not where one of them acts.
    byId("folded").checked = [...state.keys()].some((key) => key !== "q");
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
    byId("commandhint").hidden = !fits;
    byId("traytext").textContent =
      pictures.size > 1 ? "These runs are on different images or grids: choose runs on one."
        : chosen.length < 2 ? "Choose one to three more runs on the same image."
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
