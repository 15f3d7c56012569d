// The gallery: its figures are made when the reader comes near, or when the page is printed.
const gallery = byId("gallery");
const plates = new Map(all(".plates").map((block) => [block.dataset.view, block]));
const filled = new Map();

function fillGallery(key) {
  const block = plates.get(key);
  if (block) {
    plates.delete(key);
    block.innerHTML = heldText(block);
    filled.set(key, all(".plate", block));
    light();
  }
  colourGallery(key);
}

// Pictures in the palette's colours take the place of filtered ones, which are slow in bulk.
let colouring = 0;
async function colourGallery(key) {
  const turn = ++colouring;
  const name = paletteOf(key);
  const colours = palette(name);
  const opacity = colours.map((_, level) => Math.round(255 * opacityAt(name, level)));
  for (const [at, plate] of filled.get(key).entries()) {
    if (plate.dataset.palette === name) continue;
    const id = plate.dataset.id ?? plate.getAttribute("href").slice(1);
    const map = await slotMap(id);
    if (turn !== colouring) return;
    const image = svgElement("image", {
      "data-id": id, "data-palette": name, width: cols, height: rows, transform: plate.getAttribute("transform"),
      href: pngUri(levelsOf(map, map.max), colours, opacity),
    });
    plate.replaceWith(image);
    filled.get(key)[at] = image;
    if (at % 32 === 31) await new Promise((resolve) => setTimeout(resolve));
  }
}

// A gallery that is near at the opening must not hold up the first frame with the stage.
const whenIdle = window.requestIdleCallback ?? ((then) => setTimeout(then, 100));
let near = false;
new IntersectionObserver((entries, watcher) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  near = true;
  watcher.disconnect();
  whenIdle(() => fillGallery(currentView().key));
}, { rootMargin: "600px" }).observe(gallery);
drawers.push(({ take }) => { if (near) fillGallery(take.view.key); });
addEventListener("beforeprint", () => {
  const { key } = currentView();
  fillGallery(key);
  if (filled.get(key).some((plate) => plate.tagName === "use")) {
    const defs = mapBlocks.get(key);
    defs.insertAdjacentHTML("afterend", heldText(defs));
  }
});
