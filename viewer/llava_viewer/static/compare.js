// The rules that work without this script are many and slow: the script marks the chosen elements instead.
document.documentElement.classList.add("js");
document.getElementById("plain").disabled = true;

document.addEventListener("DOMContentLoaded", () => {
  const byId = (id) => document.getElementById(id);
  const runs = [...document.querySelectorAll(".run")];
  const stages = [...document.querySelectorAll(".stage")];
  const readout = byId("readout");
  const letters = runs.map((run) => run.querySelector("input").name);
  const first = document.querySelector(".heat");
  const [, x, y, width, height] = first.getAttribute("transform")
    .match(/translate\(([\d.-]+) ([\d.-]+)\) scale\(([\d.]+) ([\d.]+)\)/).map(Number);
  const cols = +first.querySelector("rect").getAttribute("width");
  const rows = +first.querySelector("rect").getAttribute("height");
  const picked = (name) => document.querySelector(`input[name="${name}"]:checked`);

  function mark() {
    runs.forEach((run, at) => {
      const key = picked(letters[at]).id;
      for (const element of run.querySelectorAll(".on:not(.cursor)")) element.classList.remove("on");
      for (const element of run.querySelectorAll(`.${key}, [for="${key}"]`)) element.classList.add("on");
    });
  }

  // Values come back out of the very pictures that are shown, so that read-outs and differences cannot disagree.
  const decoded = new Map();
  async function values(image) {
    const source = image.getAttribute("href");
    if (!decoded.has(source)) {
      const picture = new Image();
      picture.src = source;
      await picture.decode();
      const canvas = document.createElement("canvas");
      canvas.width = cols;
      canvas.height = rows;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      const data = context.getImageData(0, 0, cols, rows).data;
      decoded.set(source, Float64Array.from({ length: rows * cols }, (_, i) => (data[4 * i] / 255) ** 2));
    }
    return decoded.get(source).map((level) => level * image.dataset.max);
  }
  const chosen = () => Promise.all(runs.map((run) => values(run.querySelector(".heat image.on"))));

  let patch = null;
  async function read() {
    for (const stage of stages) {
      const cursor = stage.querySelector(".cursor");
      cursor.classList.toggle("on", patch !== null);
      if (patch === null) continue;
      cursor.setAttribute("x", x + patch.col * width);
      cursor.setAttribute("y", y + patch.row * height);
    }
    if (patch === null) return;
    const { row, col } = patch;
    const all = (await chosen()).map((map) => map[row * cols + col]);
    if (patch === null || patch.row !== row || patch.col !== col) return;
    const parts = all.map((value, at) => `${letters[at].toUpperCase()} ${percent(value)}`);
    const gaps = all.slice(1).map((value, at) => `A \u2212 ${letters[at + 1].toUpperCase()} ${points(all[0] - value)}`);
    readout.textContent = `Row ${row}, column ${col}: ${[...parts, ...gaps].join(", ")}`;
  }

  // One scale for all runs is the scale of the maps that are shown.
  function share() {
    const images = runs.map((run) => run.querySelector(".heat image.on"));
    const top = Math.max(...images.map((image) => +image.dataset.max));
    runs.forEach((run, at) => {
      images[at].setAttribute("opacity", top > 0 ? Math.sqrt(images[at].dataset.max / top) : 1);
      const legend = run.querySelector(".ramp .k.on");
      legend.querySelector(".most").textContent = percent(top);
      const even = parseFloat(legend.querySelector("rect").getAttribute("x"));
      const shared = top > 0 ? Math.min(100, (even * images[at].dataset.max) / top) : 0;
      legend.querySelector("rect + rect").setAttribute("x", `${shared.toFixed(1)}%`);
    });
  }

  async function subtract() {
    const keys = letters.map((letter) => picked(letter).id).join();
    const errors = runs.map((run) => +run.querySelector(".heat image.on").dataset.error);
    const maps = await chosen();
    if (keys !== letters.map((letter) => picked(letter).id).join()) return;
    const canvas = document.createElement("canvas");
    canvas.width = cols;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    for (const figure of document.querySelectorAll(".diff")) {
      const other = maps[letters.indexOf(figure.dataset.letter)];
      const floor = errors[0] + errors[letters.indexOf(figure.dataset.letter)];
      const gaps = other.map((value, i) => (Math.abs(maps[0][i] - value) > floor ? maps[0][i] - value : 0));
      const differs = gaps.some((gap) => gap !== 0);
      const most = gaps.reduce((top, gap) => Math.max(top, Math.abs(gap)), 2 * floor);
      const pixels = context.createImageData(cols, rows);
      gaps.forEach((gap, i) => {
        pixels.data.fill(Math.round(128 + (127 * gap) / (most || 1)), 4 * i, 4 * i + 3);
        pixels.data[4 * i + 3] = 255;
      });
      context.putImageData(pixels, 0, 0);
      const image = figure.querySelector(".delta image");
      image.setAttribute("href", canvas.toDataURL());
      image.dataset.max = most;
      figure.querySelector(".same").textContent = differs
        ? `Differences up to ${percent(floor)} are within what storing the maps may change, and left out.`
        : `No difference: none is over ${percent(floor)}, what storing the maps may change.`;
      for (const bound of figure.querySelectorAll(".bound")) bound.textContent = percent(most);
    }
    const words = runs.map((run) => run.querySelector(".tok.on").textContent);
    byId("of").textContent = `of ${words.map((word, at) => `${letters[at].toUpperCase()} “${word}”`).join(", ")}`;
  }

  for (const stage of stages) {
    const at = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(stage.getScreenCTM().inverse());
      const col = Math.floor((point.x - x) / width);
      const row = Math.floor((point.y - y) / height);
      patch = row >= 0 && col >= 0 && row < rows && col < cols ? { row, col } : null;
      read();
    };
    stage.addEventListener("pointermove", at);
    stage.addEventListener("pointerdown", at);
    stage.addEventListener("pointerleave", () => { patch = null; read(); });
    stage.addEventListener("blur", () => { patch = null; read(); });
    stage.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const from = patch || { row: Math.floor(rows / 2), col: Math.floor(cols / 2) };
      patch = {
        row: Math.min(rows - 1, Math.max(0, from.row + step[0])),
        col: Math.min(cols - 1, Math.max(0, from.col + step[1])),
      };
      read();
    });
  }

  // The address holds what is shown, so that a link opens the same pictures.
  function remember() {
    const state = new URLSearchParams();
    for (const letter of letters) state.set(letter, picked(letter).dataset.number);
    for (const name of ["m", "s", "p"]) state.set(name, picked(name).id.slice(2));
    history.replaceState(null, "", "#" + state);
  }
  function recall() {
    if (!location.hash.includes("=")) return;
    const state = new URLSearchParams(location.hash.slice(1));
    const check = (id) => { const input = byId(id); if (input) input.checked = true; };
    for (const letter of letters) {
      const number = state.get(letter);
      if (number !== null) check(`${letter}-${number === "all" ? "all" : `t${number}`}`);
    }
    for (const name of ["m", "s", "p"]) check(`${name}-${state.get(name)}`);
    update();
  }
  function update() {
    mark();
    share();
    read();
    subtract();
  }
  document.addEventListener("change", (event) => {
    const { name, dataset } = event.target;
    if (letters.includes(name)) {
      if (byId("together").checked) {
        for (const letter of letters) {
          const same = byId(`${letter}-${dataset.number === "all" ? "all" : `t${dataset.number}`}`);
          if (same) same.checked = true;
        }
      }
      update();
    }
    if (letters.includes(name) || ["m", "s", "p"].includes(name)) remember();
  });
  // A browser may put back earlier choices when it reloads or goes back.
  addEventListener("pageshow", update);
  addEventListener("hashchange", recall);
  recall();
  update();
});
