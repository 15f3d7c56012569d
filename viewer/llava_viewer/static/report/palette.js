// The page's palettes as tables of 256 colours and opacities, read from the filters that colour the stage.
const tableOf = remembered(64, (filter, channel) =>
  numbersOf(byId(filter.split(" ")[0]).querySelector(`feFunc${channel}`).getAttribute("tableValues")));

function tableAt(filter, channel, level) {
  const table = tableOf(`${filter} ${channel}`, channel);
  const at = (level / 255) * (table.length - 1);
  const low = Math.min(table.length - 2, Math.floor(at));
  return table[low] + (table[low + 1] - table[low]) * (at - low);
}

// [256] of [red, green, blue], 0..255.
const palette = remembered(8, (name) => Array.from({ length: 256 }, (_, level) =>
  ["R", "G", "B"].map((channel) => Math.round(255 * tableAt(`o-${name}`, channel, level)))));

// How opaque a palette's heat is at a level 0..255.
const opacityAt = (name, level) => tableAt(name === "difference" ? "f-apart" : "f-heat", "A", level);

const hex = (colour) => "#" + colour.map((channel) => channel.toString(16).padStart(2, "0")).join("");
