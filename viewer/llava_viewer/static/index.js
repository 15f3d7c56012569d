(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("js");
  const list = byId("runs");
  const runs = [...list.children];
  const numeric = new Set(["tokens", "share"]);

  function show() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const run of runs) {
      run.hidden = !words.every((word) => run.dataset.search.includes(word));
      count += run.hidden ? 0 : 1;
    }
    byId("shown").textContent = `${count} of ${runs.length} shown`;
    byId("none").hidden = count > 0 || runs.length === 0;
  }
  function sort() {
    const key = byId("sort").value;
    const order = numeric.has(key)
      ? (a, b) => b.dataset[key] - a.dataset[key]
      : (a, b) => a.dataset[key].localeCompare(b.dataset[key], undefined, { numeric: true });
    list.append(...[...runs].sort(order));
  }
  byId("filter").addEventListener("input", show);
  byId("sort").addEventListener("change", sort);
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  show();
})();
