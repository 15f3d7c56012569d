// One of several grids is shown: what the parts before say of the image holds for this grid alone, and a row of attention
// has one more part, what lies on the other grids. The words are those of llava_viewer/look/frames.py.
const ofAll = { show, takeFrom, warningsOf, kept, inAll, pointed, drawCard, stageFigure, stageTable };
const ofGrid = (text) => text.replace("on the image", "on this grid").replace("of the image attention", "of this grid's attention")
  .replace(/^image /, "this grid ").replace("the image share", "this grid's share");

// No map of another grid is ever drawn here, also where a browser puts back an earlier choice.
show = async () => (gridOf(picked("v")) === shownGrid ? ofAll.show() : startOn(picked("v")));
takeFrom = (text) => {
  const take = ofAll.takeFrom(text);
  return take && gridOf(byId(take.view.key)) === shownGrid ? take : null;
};
// A box lies on one picture, and heads of another grid's views say nothing of it.
ownViews = () => views.filter((view) => gridOf(byId(view.key)) === shownGrid);
verdictPlace = "this grid";
// The outermost cells of a composite lie on the image in part, and are no padding.
warningsOf = (map) => ofAll.warningsOf(map).filter((text) => !(isComposite && text.includes(" on padding "))).map(ofGrid);
kept = (map, most) => {
  const [text, ...rest] = ofAll.kept(map, most);
  return [ofGrid(text), ...rest];
};
inAll = (a, b) => ofGrid(ofAll.inAll(a, b));
pointed = (numbers, view) => ofGrid(ofAll.pointed(numbers, view));
drawCard = (take, map) => {
  ofAll.drawCard(take, map);
  const own = map.shares.reduce((a, b) => a + b, 0);
  const shares = [...map.shares, Math.max(0, 1 - own)];
  const total = Math.max(1, own);
  let until = 0;
  const bars = all("svg.share rect", desk.querySelector(".card")).reverse();
  shares.forEach((share, i) => {
    until += share / total;
    bars[i].setAttribute("width", `${Math.round(1000 * until) / 10}%`);
  });
  byId("parts").replaceChildren(...shares.flatMap((share, i) => (i ? [document.createElement("br"), percent(share)] : [percent(share)])));
};
stageFigure = () => {
  const plan = ofAll.stageFigure();
  return { ...plan, lines: plan.lines.map((line, i) => (i ? line : ofGrid(line))) };
};
stageTable = () => ofGrid(ofAll.stageTable());
