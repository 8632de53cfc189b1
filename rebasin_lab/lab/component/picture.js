// A figure that the kernel sets, with a cursor that follows a slider in the browser: a rule across
// the first panel, or a dot on a `track` between two points of it.

function renderPicture({model, el}) {
  const picture = make("div", {class: "rl-picture"});
  const caption = make("figcaption");
  const note = make("p", {class: "rl-status", role: "status"});
  const figure = make("figure", {class: "rl-figure"}, picture, caption);
  const scene = () => (model.get("scene").panels ? model.get("scene") : null);
  const tools = makeTools({scene, name: () => model.get("name")}, () => {});
  const root = make("div", {class: "rl rl-one"}, note, figure, tools);
  el.append(root);
  const values = hoverValues(figure, picture);
  let drawn = null, cursor = null, width = 0;

  function draw() {
    width = root.clientWidth;
    figure.hidden = tools.hidden = !scene();
    if (!scene()) return;
    drawn = drawScene(scene(), width || 640);
    picture.replaceChildren(drawn.svg);
    caption.textContent = scene().caption;
    values.set(drawn.points, drawn.down);
    cursor = null;
    point();
  }

  function point() {
    const at = model.get("cursor");
    if (at === null || !drawn) return;
    const {box, x, y} = drawn.frames[0];
    const track = model.get("track");
    if (!cursor) {
      cursor = track.length
        ? make("circle", {class: "rl-cursor", r: 6, "aria-hidden": "true"})
        : make("line", {class: "rl-cursor", y1: box.y, y2: box.y + box.h, "aria-hidden": "true"});
      drawn.body.append(cursor);
    }
    if (track.length) {
      const [from, to] = track;
      cursor.setAttribute("cx", x(from[0] + at * (to[0] - from[0])));
      cursor.setAttribute("cy", y(from[1] + at * (to[1] - from[1])));
    } else {
      cursor.setAttribute("x1", x(at));
      cursor.setAttribute("x2", x(at));
    }
  }

  function say() {
    note.textContent = model.get("note");
    note.hidden = !note.textContent;
    figure.classList.toggle("rl-old", Boolean(note.textContent));
  }

  const resized = new ResizeObserver(() => { if (root.clientWidth !== width) draw(); });
  resized.observe(root);
  const watched = [["change:scene", draw], ["change:cursor", point], ["change:note", say]];
  for (const [event, act] of watched) model.on(event, act);
  draw();
  say();
  return () => {
    resized.disconnect();
    for (const [event, act] of watched) model.off(event, act);
  };
}
