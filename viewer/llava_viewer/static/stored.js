(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const list = byId("runs");
  const { total, page, block, searched, folder } = list.dataset;
  const [count, size, together, many] = [total, page, block, searched].map(Number);
  const fields = ["q", "verdict", "tag", "column", "least", "most", "sort"].map(byId).filter(Boolean);
  const preset = Object.fromEntries(fields.map((field) => [field.id, field.value]));
  const value = (id) => byId(id)?.value ?? "";

  // Blocks are scripts beside the page, each of which hands over one value.
  const waiting = new Map();
  const values = new Map();
  window.gaze = (name, found) => {
    values.set(name, Promise.resolve(found));
    waiting.get(name)?.(found);
  };
  function load(name) {
    if (!values.has(name)) {
      values.set(name, new Promise((resolve, reject) => {
        waiting.set(name, resolve);
        const script = document.createElement("script");
        script.src = `./${folder}/${name}.js`;
        script.onerror = () => {
          values.delete(name);
          reject(new Error(`${script.src} is not there`));
        };
        script.onload = () => script.remove();
        document.head.append(script);
      }));
    }
    return values.get(name);
  }

  let columns, shown = [], at = 0, asked = 0, texts = null;
  async function searchable() {
    if (!texts) texts = Promise.all(Array.from({ length: Math.ceil(count / many) }, (_, n) => load(`t${n}`))).then((all) => all.flat());
    return texts;
  }

  async function choose(first) {
    const own = (asked += 1);
    const words = value("q").toLowerCase().split(/\s+/).filter(Boolean);
    const all = words.length ? await searchable() : null;
    if (own !== asked) return; // more was typed meanwhile
    const [verdict, tag, column] = ["verdict", "tag", "column"].map(value);
    const least = value("least") === "" ? -Infinity : +value("least");
    const most = value("most") === "" ? Infinity : +value("most");
    const numbers = columns[column];
    shown = columns.order.filter((n) =>
      (verdict === "" || columns.verdict[n] === +verdict) && (tag === "" || columns.tags[n].includes(+tag)) &&
      numbers[n] >= least && numbers[n] <= most && words.every((word) => all[n].includes(word)));
    const key = value("sort");
    if (key) shown.sort((a, b) => columns[key][a] - columns[key][b] || a - b);
    if (byId("order").getAttribute("aria-pressed") === "true") shown.reverse();
    at = Math.min(first, Math.max(0, Math.ceil(shown.length / size) - 1));
    draw();
  }

  const add = (to, name, text, kind = "") => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    if (kind) made.className = kind;
    to.append(made);
    return made;
  };
  async function fill(card) {
    const n = +card.dataset.n;
    const it = (await load(`b${Math.floor(n / together)}`))[n % together];
    if (!card.isConnected || card.dataset.full) return;
    card.dataset.full = "1";
    card.replaceChildren();
    const image = add(add(card, "div", "", "shot"), "img");
    image.src = it.thumb;
    image.alt = it.label;
    add(card, "p", it.label, "label");
    add(card, "h2", it.prompt || "(no question)").dir = "auto";
    add(card, "p", it.answer, "said").dir = "auto";
    const foot = add(card, "div", "", "foot");
    add(foot, "p", it.facts, "facts");
    if (it.verdict || it.expected) {
      const told = add(foot, "p", "", "facts");
      if (it.verdict) add(told, "b", it.verdict, it.verdict);
      if (it.expected) {
        told.append(it.verdict ? "; expected “" : "expected “");
        add(told, "bdi", it.expected);
        told.append("”");
      }
    }
    if (it.tags.length) {
      const tags = add(foot, "p", "", "facts tags");
      for (const tag of it.tags) {
        add(tags, "span", tag).dir = "auto";
        tags.append(" ");
      }
    }
    const last = add(foot, it.command ? "details" : "p", "", "facts");
    add(it.command ? add(last, "summary") : last, "bdi", it.id);
    if (it.command) add(last, "code", it.command);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      fill(entry.target).catch((error) => { byId("shown").textContent = error.message; });
    }
  }, { rootMargin: "400px" });

  function draw() {
    seen.disconnect();
    const cards = shown.slice(at * size, (at + 1) * size).map((n) => {
      const card = document.createElement("li");
      card.className = "run";
      card.dataset.n = n;
      return card;
    });
    list.replaceChildren(...cards);
    for (const card of cards) seen.observe(card);
    const pages = Math.ceil(shown.length / size);
    byId("shown").textContent = `${shown.length} of ${count} shown`;
    byId("none").hidden = shown.length > 0 || count === 0;
    byId("where").textContent = pages ? `page ${at + 1} of ${pages}` : "";
    byId("before").disabled = at === 0;
    byId("next").disabled = at + 1 >= pages;
    byId("pages").hidden = pages < 2;
  }

  // The address holds what is shown, so that a link opens the same list.
  function remember() {
    const state = new URLSearchParams();
    for (const field of fields) if (field.value !== preset[field.id]) state.set(field.id, field.value);
    if (byId("order").getAttribute("aria-pressed") === "true") state.set("order", "reverse");
    if (at) state.set("page", at + 1);
    history.replaceState(null, "", `#${state}`);
  }
  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      field.value = state.get(field.id) ?? preset[field.id];
      if (field.value === "" && preset[field.id] !== "") field.value = preset[field.id];
    }
    byId("order").setAttribute("aria-pressed", state.get("order") === "reverse");
    byId("folded").checked = [...state.keys()].some((key) => !["q", "page"].includes(key));
    return choose(Math.max(0, (+state.get("page") || 1) - 1));
  }
  function turn(to) {
    at = to;
    draw();
    remember();
    list.scrollIntoView();
  }
  const changed = () => choose(0).then(remember);

  function start(found) {
    columns = found;
    document.documentElement.classList.add("js");
    const form = document.querySelector(".controls");
    form.addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      history.replaceState(null, "", "#");
      recall();
    });
    byId("order").addEventListener("click", (event) => {
      event.target.setAttribute("aria-pressed", event.target.getAttribute("aria-pressed") !== "true");
      changed();
    });
    byId("before").addEventListener("click", () => turn(at - 1));
    byId("next").addEventListener("click", () => turn(at + 1));
    addEventListener("hashchange", recall);
    recall();
  }
  // Without the folder beside it the page stays as it is without a script.
  if (count) load("columns").then(start, () => {});
})();
