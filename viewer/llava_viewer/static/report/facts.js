// What is said about a map: even spread, top patches, warnings. The words and limits are those of llava_viewer/frames.py.
const TOP_PATCHES = 3;

function evenShare(map) {
  return map.shares[1] / map.values.length;
}

function brightest(map, count) {
  const { values } = map;
  const order = [];
  for (let at = 0; at < values.length; at++) {
    let place = order.length;
    while (place > 0 && values[order[place - 1]] < values[at]) place--;
    if (place < count) order.splice(place, 0, at);
    order.length = Math.min(order.length, count);
  }
  return order.map((at) => ({ row: Math.floor(at / cols), col: at % cols, value: map.values[at] }));
}

function timesEven(value, map) {
  const even = evenShare(map);
  return even > 0 ? times(value / even) : "–";
}

function warningsOf(map) {
  const found = [];
  const image = map.shares[1];
  const even = evenShare(map);
  if (image < 0.05) {
    found.push(`Only ${percent(image)} of the attention is on the image: this map is nearly no evidence.`);
  }
  if (map.max > 0 && map.max < 2 * even) {
    found.push(`The map is nearly even: its brightest patch has only ${times(map.max / even)} an even share.`);
  }
  let total = 0;
  let padded = 0;
  map.values.forEach((value, at) => {
    const [x, y] = corner(Math.floor(at / cols) + 0.5, (at % cols) + 0.5);
    total += value;
    if (x < 0 || y < 0 || x > picture.width || y > picture.height) padded += value;
  });
  if (total > 0 && padded / total >= 0.01) {
    found.push(`${percent(padded / total)} of the image attention lies on padding outside the image.`);
  }
  return found;
}
