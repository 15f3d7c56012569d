// A figure for a paper: map, legend and caption as one SVG that needs nothing else, its colours baked in.
const FIGURE_WIDTH = 1000;
const SANS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
// Characters that XML forbids would make the file unreadable.
const xmlText = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udfff](?![\udc00-\udfff])(?<![\ud800-\udbff][\udc00-\udfff])/g, "\ufffd");

// Colour and opacity of every patch in a mode.
function inksOf(levels, mode, name) {
  const colours = palette(name);
  return Array.from(levels, (level) => {
    if (mode === "photo") return ["#000000", 0];
    if (mode === "spotlight") return ["#000000", tableAt("f-spot", "A", level)];
    return [hex(colours[level]), mode === "map" ? 1 : opacityAt(name, level)];
  });
}

// The stage's photo as it is shown: paler under heat. Null when there is none to show.
async function photoUri(mode) {
  const source = byId("photo").getAttribute("href");
  if (!source || mode === "map") return null;
  if (mode !== "heat") return source;
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const data = pixels.data;
  // The page's own filter f-grey: saturate .65, then .9 x + .06.
  for (let i = 0; i < data.length; i += 4) {
    const grey = 0.2126 * data[i] + 0.7152 * data[i + 1] + 0.0722 * data[i + 2];
    for (let c = i; c < i + 3; c++) data[c] = 0.9 * (grey + 0.65 * (data[c] - grey)) + 0.06 * 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL("image/jpeg", 0.92);
}

// Lines of at most the width, broken between words and every 24 characters inside one: not every script has spaces.
function wrapped(text, size, weight) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = `${weight} ${size}px ${SANS}`;
  const lines = [""];
  for (const part of text.match(/\s+|\S{1,24}/gu)) {
    if (context.measureText(lines.at(-1) + part).width > FIGURE_WIDTH) lines.push(part);
    else lines[lines.length - 1] += part;
  }
  if (lines.length > 6) lines.splice(6, Infinity, "…");
  return lines;
}

// plan: {levels, mode, palette, opacity, peak: [row, col] or null, box: [x0, y0, x1, y1] or null, ramp: [[offset, text], ...], mark, unit, title, lines}
async function figureSvg(plan) {
  const [x, y, width, height] = stage.getAttribute("viewBox").split(" ").map(Number);
  const scale = FIGURE_WIDTH / width;
  const root = svgElement("svg", { xmlns: "http://www.w3.org/2000/svg", "font-family": SANS, fill: "#1b1e24" });
  const defs = svgElement("defs");
  const gradient = svgElement("linearGradient", { id: "ramp" });
  if (plan.mode === "spotlight") {
    gradient.append(svgElement("stop", { offset: 0, "stop-color": "#0c0c0d" }), svgElement("stop", { offset: 1, "stop-color": "#c8c8c8" }));
  } else {
    for (let level = 0; level <= 255; level += 15) {
      gradient.append(svgElement("stop", { offset: +(level / 255).toFixed(4), "stop-color": hex(palette(plan.palette)[level]) }));
    }
  }
  const hatch = byId("hatch").cloneNode(true);
  defs.append(gradient, hatch, ...(byId("photo").hasAttribute("href") ? [] : [byId("checker").cloneNode(true)]));
  root.append(defs, svgElement("rect", { id: "ground", fill: "#ffffff" }));
  const picture = svgElement("svg", { width: FIGURE_WIDTH, height: height * scale, viewBox: `${x} ${y} ${width} ${height}` });
  const uri = await photoUri(plan.mode);
  if (plan.mode !== "map") {
    const photo = byId("photo").cloneNode();
    photo.removeAttribute("id");
    if (uri) photo.setAttribute("href", uri);
    picture.append(photo);
  }
  const heat = svgElement("g", { "shape-rendering": "crispEdges", opacity: plan.opacity });
  inksOf(plan.levels, plan.mode, plan.palette).forEach(([fill, opacity], i) => {
    if (opacity < 0.004) return;
    const [px, py] = corner(Math.floor(i / cols), i % cols);
    heat.append(svgElement("rect", { x: px, y: py, width: patchWidth, height: patchHeight, fill, "fill-opacity": +opacity.toFixed(3) }));
  });
  picture.append(heat);
  for (const area of all(".hatched", stage)) {
    if (plan.mode === "map") break;
    const copy = area.cloneNode(true);
    copy.removeAttribute("class");
    picture.append(copy);
  }
  if (plan.peak && plan.mode !== "photo") {
    const [px, py] = corner(...plan.peak);
    for (const [stroke, own] of [["#000000", 5], ["#ffffff", 2]]) {
      picture.append(svgElement("rect", { x: px, y: py, width: patchWidth, height: patchHeight, fill: "none", stroke, "stroke-width": own / scale }));
    }
  }
  if (plan.box) {
    const [x0, y0, x1, y1] = plan.box;
    for (const [stroke, own] of [["#ffffff", 6], ["#1d4f91", 3]]) {
      picture.append(svgElement("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, fill: "none", stroke, "stroke-width": own / scale }));
    }
  }
  root.append(picture);
  let at = height * scale + 18;
  if (plan.mode !== "photo") {
    root.append(svgElement("rect", { y: at, width: 560, height: 14, fill: "url(#ramp)" }));
    if (plan.mark !== null) root.append(svgElement("rect", { x: 5.6 * plan.mark - 1.5, y: at, width: 3, height: 14, fill: "#ffffff", stroke: "#000000" }));
    for (const [offset, text] of plan.ramp) {
      const anchor = offset === 0 ? "start" : offset === 100 ? "end" : "middle";
      root.append(svgElement("text", { x: 5.6 * offset, y: at + 34, "font-size": 17, "text-anchor": anchor }, text));
    }
    at += 42;
  }
  const line = (text, size, weight, fill) => {
    for (const part of wrapped(xmlText(text), size, weight)) {
      at += size * 1.35;
      root.append(svgElement("text", { y: at, "font-size": size, "font-weight": weight, fill }, part));
    }
  };
  if (plan.mode !== "photo") line(plan.unit, 16, 400, "#5a5f6a");
  line(plan.title, 26, 600, "#1b1e24");
  for (const text of plan.lines) line(text, 16, 400, "#5a5f6a");
  const [full, border] = [at + 14, 12];
  const box = { x: -border, y: -border, width: FIGURE_WIDTH + 2 * border, height: full + 2 * border };
  root.setAttribute("viewBox", Object.values(box).join(" "));
  root.setAttribute("width", box.width);
  root.setAttribute("height", box.height);
  for (const [name, own] of Object.entries(box)) root.querySelector("#ground").setAttribute(name, own);
  return { text: `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(root)}\n`, box };
}
