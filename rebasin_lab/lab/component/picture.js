// A figure that the kernel sets, with a cursor that follows a slider in the browser: a rule across
// each panel, or a dot on the `track` from A to the permuted B. There B may be seen to wander, too.

const WANDERING = 1500; // milliseconds

function renderPicture({model, el}) {
  const picture = make("div", {class: "rl-picture"});
  const caption = make("figcaption");
  const note = make("p", {class: "rl-status", role: "status"});
  const figure = make("figure", {class: "rl-figure"}, picture, caption);
  const scene = () => (model.get("scene").panels ? model.get("scene") : null);
  const tools = makeTools({scene, name: () => model.get("name")}, () => {});
  const wander = make("button", {
    type: "button", "aria-pressed": "false", onclick: () => go(wander.getAttribute("aria-pressed") !== "true"),
    title: "Permuting its units moves B, and with it the line from A"}, "Move B to π(B)");
  const root = make("div", {class: "rl rl-one"}, note, figure, tools);
  el.append(root);
  const values = hoverValues(figure, picture);
  let drawn = null, cursors = [], width = 0, way = null, there = 0, frame = null;

  function draw() {
    width = root.clientWidth;
    figure.hidden = tools.hidden = !scene();
    if (model.get("track").length) tools.prepend(wander);
    else wander.remove();
    if (!scene()) return;
    drawn = drawScene(scene(), width || 640);
    picture.replaceChildren(drawn.svg);
    caption.textContent = scene().caption;
    values.set(drawn.points, drawn.down);
    cursors = [];
    way = null;
    point();
    if (there) stand();
  }

  function point() {
    const at = model.get("cursor");
    if (at === null || !drawn) return;
    const track = model.get("track");
    if (!cursors.length) {
      cursors = track.length
        ? [make("circle", {class: "rl-cursor", r: 6, "aria-hidden": "true"})]
        : drawn.frames.map(({box}) =>
          make("line", {class: "rl-cursor", y1: box.y, y2: box.y + box.h, "aria-hidden": "true"}));
      drawn.body.append(...cursors);
    }
    cursors.forEach((cursor, index) => {
      const {x, y} = drawn.frames[index];
      if (track.length) {
        const [left, top] = between(track[0], track[1], at);
        cursor.setAttribute("cx", x(left));
        cursor.setAttribute("cy", y(top));
      } else {
        cursor.setAttribute("x1", x(at));
        cursor.setAttribute("x2", x(at));
      }
    });
  }

  const between = (from, to, at) => from.map((value, axis) => value + at * (to[axis] - value));

  // B on its way, `there` of it done, and the line from A to where it is.
  function stand() {
    const [a, moved, b] = model.get("track");
    const {x, y} = drawn.frames[0];
    const [left, top] = between(b, moved, there);
    if (!way) {
      way = [make("path", {class: "rl-way", fill: "none"}), make("circle", {class: "rl-way", r: 7})];
      drawn.body.append(...way);
    }
    way[0].setAttribute("d", `M${x(a[0])} ${y(a[1])}L${x(left)} ${y(top)}`);
    way[1].setAttribute("cx", x(left));
    way[1].setAttribute("cy", y(top));
  }

  function go(forth) {
    wander.setAttribute("aria-pressed", String(forth));
    wander.textContent = forth ? "Move B back" : "Move B to π(B)";
    cancelAnimationFrame(frame);
    const began = performance.now(), from = there, to = Number(forth);
    const needed = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : WANDERING;
    const step = now => {
      const share = needed ? Math.min(1, Math.max(0, now - began) / needed) : 1;
      there = from + share * (to - from);
      stand();
      if (share < 1) frame = requestAnimationFrame(step);
    };
    step(began);
  }

  function say() {
    note.textContent = model.get("note");
    note.hidden = !note.textContent;
    figure.classList.toggle("rl-old", Boolean(note.textContent));
  }

  const resized = new ResizeObserver(() => { if (root.clientWidth !== width) draw(); });
  resized.observe(root);
  const watched = [["change:scene", draw], ["change:track", draw], ["change:cursor", point], ["change:note", say]];
  for (const [event, act] of watched) model.on(event, act);
  draw();
  say();
  return () => {
    resized.disconnect();
    cancelAnimationFrame(frame);
    for (const [event, act] of watched) model.off(event, act);
  };
}
