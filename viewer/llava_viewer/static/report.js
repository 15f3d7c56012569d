"use strict";
// The rules that work without this script are many and slow: the script marks the chosen elements instead.
document.documentElement.classList.add("js");
document.getElementById("plain").disabled = true;

document.addEventListener("DOMContentLoaded", () => {
  const byId = (id) => document.getElementById(id);
  const desk = document.querySelector(".desk");
  const stage = byId("stage");
  const readout = byId("readout");
  const cursor = byId("cursor");
  const grid = {
    x: +stage.dataset.x, y: +stage.dataset.y, width: +stage.dataset.width, height: +stage.dataset.height,
    rows: +stage.dataset.rows, cols: +stage.dataset.cols,
  };

  const picked = (name) => document.querySelector(`input[name="${name}"]:checked`);
  const radios = (name) => [...document.querySelectorAll(`input[name="${name}"]`)];
  const tokens = radios("t");
  const views = radios("v");

  let marked = null;
  function mark() {
    const token = picked("t");
    if (!token || token.id === marked) return;
    marked = token.id;
    for (const element of desk.querySelectorAll(".on")) element.classList.remove("on");
    for (const element of desk.querySelectorAll(`.${marked}, [for="${marked}"]`)) element.classList.add("on");
  }
  // A browser may put back an earlier choice when it reloads or goes back.
  addEventListener("pageshow", mark);

  // The frame on the stage: the shown slot of the chosen view, and in it the chosen token's map.
  function frame() {
    const view = picked("v").id;
    const token = picked("t");
    const slot = picked(view + "s");
    const group = stage.querySelector(slot ? `.heat .${slot.id}` : `.heat .${view} .s`);
    return group.querySelector(token ? `.${token.id}` : "use") || group.querySelector("use:not(.k)");
  }

  // Values come back out of the very picture that is shown, so that the read-out cannot disagree with it.
  const decoded = new Map();
  async function values(use) {
    const source = byId(use.getAttribute("href").slice(1)).getAttribute("href");
    if (!decoded.has(source)) {
      const picture = new Image();
      picture.src = source;
      await picture.decode();
      const canvas = document.createElement("canvas");
      canvas.width = grid.cols;
      canvas.height = grid.rows;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      decoded.set(source, context.getImageData(0, 0, grid.cols, grid.rows).data);
    }
    return decoded.get(source);
  }

  const percent = (share) => {
    const value = share * 100;
    return (value === 0 ? "0" : value < 0.001 ? "<0.001" : value.toPrecision(2).replace(/e.*/, "")) + "\u00a0%";
  };

  let patch = null;
  async function read() {
    cursor.classList.toggle("on", patch !== null);
    if (patch === null) return;
    const { row, col } = patch;
    cursor.setAttribute("x", grid.x + (col * grid.width) / grid.cols);
    cursor.setAttribute("y", grid.y + (row * grid.height) / grid.rows);
    const use = frame();
    const data = await values(use);
    if (patch === null || patch.row !== row || patch.col !== col) return;
    const level = data[4 * (row * grid.cols + col)] / 255;
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum += data[i] / 255;
    const even = sum / (grid.rows * grid.cols);
    const times = even > 0 ? `, ${(level / even).toFixed(1)}\u00a0× an even spread` : "";
    readout.textContent =
      `Row ${row}, column ${col}: ${percent(level * use.dataset.max)} of this token's attention${times}`;
  }

  stage.addEventListener("pointermove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(stage.getScreenCTM().inverse());
    const col = Math.floor(((point.x - grid.x) / grid.width) * grid.cols);
    const row = Math.floor(((point.y - grid.y) / grid.height) * grid.rows);
    patch = row >= 0 && col >= 0 && row < grid.rows && col < grid.cols ? { row, col } : null;
    read();
  });
  stage.addEventListener("pointerleave", () => { patch = null; read(); });
  stage.setAttribute("tabindex", "0");
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = patch || { row: Math.floor(grid.rows / 2), col: Math.floor(grid.cols / 2) };
    patch = {
      row: Math.min(grid.rows - 1, Math.max(0, from.row + step[0])),
      col: Math.min(grid.cols - 1, Math.max(0, from.col + step[1])),
    };
    read();
  });

  byId("opacity").addEventListener("input", (event) => {
    stage.style.setProperty("--heat", event.target.value / 100);
  });

  // The address holds what is shown, so that a link opens the same picture.
  function remember() {
    const state = new URLSearchParams();
    if (picked("t")) state.set("t", picked("t").id.replace(/^t/, ""));
    state.set("v", picked("v").dataset.name);
    state.set("m", picked("m").id.slice(2));
    if (!byId("p-cividis").checked) state.set("p", picked("p").id.slice(2));
    if (byId("s-shared").checked) state.set("s", "shared");
    history.replaceState(null, "", "#" + state);
  }
  function recall() {
    if (!location.hash.includes("=")) return;
    const state = new URLSearchParams(location.hash.slice(1));
    const check = (input) => { if (input) input.checked = true; };
    const token = state.get("t");
    check(tokens.find((input) => input.id === token || input.id === "t" + token));
    check(views.find((input) => input.dataset.name === state.get("v")));
    for (const name of ["m", "p", "s"]) {
      check(radios(name).find((input) => input.id === `${name}-${state.get(name)}`));
    }
    mark();
    read();
  }
  document.addEventListener("change", (event) => {
    if (!["t", "v", "m", "p", "s"].includes(event.target.name)) return;
    mark();
    remember();
    read();
    if (event.target.name === "t") {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      desk.querySelector(`.tok[for="${event.target.id}"]`)
        ?.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
    }
  });
  addEventListener("hashchange", recall);
  recall();
  mark();

  const choose = (input) => {
    if (!input) return;
    input.checked = true;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.key !== "[" && event.key !== "]")) return;
    const at = views.findIndex((input) => input.checked);
    choose(views[(at + (event.key === "]" ? 1 : views.length - 1)) % views.length]);
  });

  const play = byId("play");
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    const shown = tokens.filter((input) => !desk.querySelector(`.tok.special[for="${input.id}"]`));
    let at = shown.findIndex((input) => input.checked);
    if (at < 0 || at === shown.length - 1) at = -1;
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => {
      at += 1;
      choose(shown[at]);
      if (at >= shown.length - 1) stop();
    }, 700);
  });
});
