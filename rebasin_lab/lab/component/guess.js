// Predict, then check: before a figure is shown the reader sketches one of its lines, with the mouse
// or with a slider for each point. Then the sketch stands beside what was measured. Its points are
// some of the line's own; where the axis is logarithmic, how far it is off is a factor.

const MOST_POINTS = 7, FEW_POINTS = 5; // of a line with more points, a few

// `series` is the label of the line; `unlock` is called when the reader has sketched, or will not.
function makeGuess(series, unlock) {
  let isLocked = true, ys = null, place = null, sliders = [];
  const said = make("p", {role: "status"});
  const compare = make("button", {type: "button", disabled: true, onclick: () => end(true)}, "Compare");
  const skip = make("button", {type: "button", onclick: () => end(false)}, "Skip");
  const root = make("div", {class: "rl-guess", role: "group", "aria-label": "your prediction"},
    make("p", {}, `Predict first: sketch the line “${series}” in the panel, or with these sliders from left to right.`),
    make("div", {class: "rl-controls"}, compare, skip), said);

  const panelOf = scene => scene.panels.findIndex(panel => panel.marks.some(isSeries));
  const isSeries = mark => mark.kind === "line" && mark.label === series;

  // The scene as it is shown meanwhile: axes and images, and nothing that tells.
  function masked(scene) {
    if (!isLocked) return scene;
    return {
      ...scene, title: `How will the line “${series}” run?`, alt: `The axes of a figure, for your prediction of ${series}`,
      caption: "", headings: [], legend: [],
      panels: scene.panels.map(panel => ({
        ...panel, title: "", legend: [], marks: panel.marks.filter(mark => mark.kind === "image")}))};
  }

  function makeSliders(number) {
    sliders = [...Array(number).keys()].map(index => {
      const id = newId("guess");
      const label = make("label", {for: id});
      const range = make("input", {
        id, type: "range", min: 0, max: 100, step: 1, value: 50, oninput: () => set(index, range.value / 100)});
      return {label, range, root: make("div", {class: "rl-control"}, label, range)};
    });
    compare.before(...sliders.map(one => one.root));
  }

  // Draws the sketch over the picture, and lets the pointer change it as long as it may.
  function draw(scene, {svg, body, frames, down}) {
    const index = panelOf(scene);
    if (index < 0) return;
    const panel = scene.panels[index], line = panel.marks.find(isSeries), frame = frames[index];
    const last = line.x.length - 1;
    if (!sliders.length) makeSliders(last < MOST_POINTS ? last + 1 : FEW_POINTS);
    const points = sliders.map((_, at) => Math.round(at / Math.max(sliders.length - 1, 1) * last));
    const xs = points.map(point => line.x[point]);
    const sketch = make("path", {class: "rl-sketch", fill: "none", "stroke-dasharray": "3 4"});
    body.append(sketch);
    place = {panel, measured: points.map(point => line.y[point]), show: () => {
      sketch.setAttribute("d", ys === null ? "" : `M${ys.map((y, at) =>
        `${frame.x(xs[at]).toFixed(1)} ${(frame.box.y + frame.box.h * (1 - y)).toFixed(1)}`).join("L")}`);
    }};
    xs.forEach((x, at) => {
      const name = panel.x.ticks.find(([value, text]) => value === x && text)?.[1] ?? shown(x);
      sliders[at].label.textContent = name;
    });
    place.show();
    if (!isLocked) return;
    Object.assign(svg.style, {touchAction: "none", userSelect: "none"});
    const follow = event => {
      if (!event.buttons) return;
      const corner = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / corner.width || 1;
      const [left, top] = [(event.clientX - corner.left) * scale, (event.clientY - corner.top) * scale - down];
      const away = xs.map(x => Math.abs(frame.x(x) - left));
      set(away.indexOf(Math.min(...away)), 1 - (top - frame.box.y) / frame.box.h);
    };
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("pointermove", follow);
  }

  function set(index, share) {
    ys ??= Array(sliders.length).fill(0.5);
    ys[index] = Math.max(0, Math.min(1, share));
    sliders[index].range.value = 100 * ys[index];
    compare.disabled = false;
    place?.show();
  }

  function end(isChecked) {
    isLocked = false;
    if (!isChecked) ys = null;
    root.hidden = !isChecked; // nothing is left to say
    root.querySelector(".rl-controls").remove();
    root.querySelector("p").remove();
    said.textContent = isChecked ? verdict() : "";
    unlock();
  }

  function verdict() {
    const {panel, measured} = place;
    const isLog = panel.y.log, of = isLog ? Math.log10 : value => value, back = isLog ? value => 10 ** value : value => value;
    const [low, high] = panel.y.limits.map(of);
    const guessed = ys.map(y => low + y * (high - low));
    const off = guessed.map((value, at) => Math.abs(value - of(measured[at])));
    const mean = shown(back(off.reduce((sum, each) => sum + each) / off.length));
    const worst = off.indexOf(Math.max(...off));
    return `Your sketch, dotted, is ${isLog ? "a factor of " : ""}${mean} away in the mean (${panel.y.label}), and farthest at ` +
      `${sliders[worst].label.textContent}: you said ${shown(back(guessed[worst]))}, measured is ${shown(measured[worst])}.`;
  }

  return {root, masked, draw, get isLocked() { return isLocked; }};
}
