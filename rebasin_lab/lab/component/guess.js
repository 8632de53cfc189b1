// Predict, then check: before a figure is shown the reader sketches one of its lines, with the mouse
// or with a slider for each point. Then the sketch stands beside what was measured.

const NUM_POINTS = 5;

// `series` is the label of the line; `unlock` is called when the reader has sketched, or will not.
function makeGuess(series, unlock) {
  let isLocked = true, ys = null, place = null;
  const said = make("p", {role: "status"});
  const sliders = [...Array(NUM_POINTS).keys()].map(index => {
    const id = newId("guess");
    const label = make("label", {for: id});
    const range = make("input", {
      id, type: "range", min: 0, max: 100, step: 1, value: 50, oninput: () => set(index, range.value / 100)});
    return {label, range, root: make("div", {class: "rl-control"}, label, range)};
  });
  const compare = make("button", {type: "button", disabled: true, onclick: () => end(true)}, "Compare");
  const skip = make("button", {type: "button", onclick: () => end(false)}, "Skip");
  const root = make("div", {class: "rl-guess", role: "group", "aria-label": "your prediction"},
    make("p", {}, `Predict first: sketch the line “${series}” in the panel, or with these sliders from left to right.`),
    make("div", {class: "rl-controls"}, ...sliders.map(one => one.root), compare, skip), said);

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

  // Draws the sketch over the picture, and lets the pointer change it as long as it may.
  function draw(scene, {svg, body, frames, down}) {
    const index = panelOf(scene);
    if (index < 0) return;
    const panel = scene.panels[index], line = panel.marks.find(isSeries), frame = frames[index];
    const xs = sliders.map((_, at) => line.x[0] + at / (NUM_POINTS - 1) * (line.x.at(-1) - line.x[0]));
    const sketch = make("path", {class: "rl-sketch", fill: "none", "stroke-dasharray": "3 4"});
    body.append(sketch);
    place = {panel, line, xs, show: () => {
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
    ys ??= Array(NUM_POINTS).fill(0.5);
    ys[index] = Math.max(0, Math.min(1, share));
    sliders[index].range.value = 100 * ys[index];
    compare.disabled = false;
    place?.show();
  }

  function end(isChecked) {
    isLocked = false;
    if (!isChecked) ys = null;
    root.querySelector(".rl-controls").remove();
    root.querySelector("p").remove();
    said.textContent = isChecked ? verdict() : "";
    unlock();
  }

  function verdict() {
    const {panel, line, xs} = place;
    const [low, high] = panel.y.limits.map(panel.y.log ? Math.log10 : value => value);
    const guessed = ys.map(y => low + y * (high - low)).map(value => (panel.y.log ? 10 ** value : value));
    const measured = xs.map(x => valueAt(line, x));
    const off = guessed.map((value, at) => Math.abs(value - measured[at]));
    const mean = off.reduce((sum, each) => sum + each) / NUM_POINTS;
    const worst = off.indexOf(Math.max(...off));
    return `Your sketch, dotted, is ${shown(mean)} away in the mean (${panel.y.label}), and farthest at ` +
      `${sliders[worst].label.textContent}: you said ${shown(guessed[worst])}, measured is ${shown(measured[worst])}.`;
  }

  return {root, masked, draw, get isLocked() { return isLocked; }};
}

// A line's value at x, straight between its points.
function valueAt(line, x) {
  const after = line.x.findIndex(value => value >= x);
  if (after <= 0) return line.y[Math.max(after, 0)];
  const [x0, x1, y0, y1] = [line.x[after - 1], line.x[after], line.y[after - 1], line.y[after]];
  return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}
