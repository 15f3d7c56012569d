// What the shown map is worth: the verdict of llava_viewer/look/frames.py, in the words of look/wording.py.
const worth = byId("worth");
const [LOW_SHARE, FLAT, OWN, LEAST_WORDS] = (worth?.dataset.limits ?? "").split(" ").map(Number);

// The patches of a view that nearly every word reads.
const sinkPatches = (view) => (byId(view.key).dataset.sinks ?? "").split(" ").filter(Boolean)
  .map((one) => one.split(".").map(Number)).map(([row, col]) => row * cols + col);

// How many times what the answer's other words have there, as part of their maps, a map has at its brightest patch.
function othersTimes(own, others) {
  const values = (maps) => maps.reduce((sum, map) => sum + sumOf(map.values), 0);
  const [top] = brightest(own, 1);
  const at = top.row * cols + top.col;
  const [whole, theirs] = [values([own]), values(others)];
  if (!(whole > 0 && theirs > 0)) return null;
  const there = Math.max(0, others.reduce((sum, map) => sum + map.values[at], 0)) / theirs;
  return there > 0 ? own.values[at] / whole / there : Infinity;
}

let verdictPlace = "the image";
function verdictOf(map, sinks, timesOthers) {
  const total = sumOf(map.values);
  const held = sinks.length && total > 0 ? sinks.reduce((sum, at) => sum + map.values[at], 0) / total : null;
  const last = held === null ? "" : `Sinks (×) hold ${percent(held)} of this map.`;
  const [top] = brightest(map, 1);
  const even = evenShare(map);
  const told = (() => {
    if (map.shares[1] < LOW_SHARE) return `○ weak: only ${percent(map.shares[1])} of the attention is on ${verdictPlace}.`;
    if (map.max < FLAT * even) return `≈ even: its brightest patch has only ${times(map.max / even)} an even share.`;
    if (sinks.includes(top.row * cols + top.col)) return "× sink: nearly every word of the answer reads its brightest patch.";
    if (timesOthers === null) return "";
    return `${timesOthers >= OWN ? "◆ particular" : "= usual"}: its brightest patch has ${times(Math.min(timesOthers, 999))} what the other words have there.`;
  })();
  return [told, last].filter(Boolean).join(" ");
}

async function drawWorth({ take, map }) {
  const { view, layer, head, tokens, how } = take;
  // A map of maxima is no part of anyone's attention.
  worth.hidden = view.share === false || (tokens.length > 1 && how === "max");
  if (worth.hidden) return;
  worth.textContent = "";  // none of another map is left standing meanwhile
  const keys = ordinaryKeys();
  let compared = null;
  if (!view.whole && keys.length >= LEAST_WORDS) {
    const maps = await wordMaps([view.key, layer, head].join("~"), view, layer, head);
    if (shown.map !== map) return;
    compared = othersTimes(map, maps.filter((_, at) => !tokens.includes(keys[at])));
  }
  worth.textContent = verdictOf(map, sinkPatches(view), compared);
}
if (worth) drawers.push(drawWorth);
