// Numbers as a reader sees them, rounded as llava_viewer/wording.py rounds them.
const NBSP = "\u00a0";

function percent(share) {
  const value = 100 * share;
  if (value <= 0) return `0${NBSP}%`;
  if (value < 0.001) return `<0.001${NBSP}%`;
  if (value >= 9.95) {
    const text = value < 99.5 ? value.toFixed(0) : value >= 99.9995 ? "100" : (Math.floor(value * 100) / 100).toFixed(2);
    return `${text}${NBSP}%`;
  }
  const rounded = Number(value.toExponential(1));
  return `${rounded.toFixed(Math.max(0, 1 - Math.floor(Math.log10(rounded))))}${NBSP}%`;
}

function times(ratio) {
  return `${ratio.toFixed(ratio >= 9.95 ? 0 : 1)}${NBSP}×`;
}

// A difference of two shares, in points of attention.
function points(difference) {
  const text = percent(Math.abs(difference)).replace(`${NBSP}%`, "");
  return `${difference > 0 ? "+" : difference < 0 ? "−" : ""}${text}${NBSP}points`;
}
