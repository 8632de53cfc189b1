// A figure and its dials. A stop that is stored is drawn here at once; another one is asked of the
// kernel, and until it comes the picture that stands is pale and says what it shows.

const PATIENCE = 4000; // milliseconds without an answer, after which we say that none may come
const FRAME = 350; // milliseconds between two steps of a process that plays

function renderDials({model, el}) {
  const controls = model.get("controls");
  const keyOf = at => at.join(",");
  let numTitles = 0, drawn = null, waiting = null, width = 0;

  const inputs = controls.map((control, index) => makeControl(control, value => move(index, value)));
  const picture = make("div", {class: "rl-picture"});
  const caption = make("figcaption");
  const status = make("p", {class: "rl-status", role: "status"});
  const alarm = make("p", {class: "rl-alert", role: "alert"});
  const figure = make("figure", {class: "rl-figure"}, picture, caption);
  const dials = make("fieldset", {class: "rl-controls", "aria-label": "dials"}, ...inputs.map(one => one.root));
  const predicts = model.get("predict");
  const guess = predicts ? makeGuess(predicts, () => { dials.disabled = false; show(); }) : null;
  dials.disabled = Boolean(guess);
  const say = text => { status.textContent = text; };
  const tools = makeTools({
    reset: controls.length && (() => model.get("first").forEach((value, index) => move(index, value))),
    link: controls.length && (() => linkTo(model.get("name"), textOf(model.get("at")))),
    scene: () => (guess?.isLocked ? null : drawn?.scene), name: () => model.get("name"),
  }, say);
  const above = [...(controls.length ? [dials] : []), ...(guess ? [guess.root] : [])];
  const root = make("div", {class: "rl rl-dials"}, ...above, alarm, figure, status, tools);
  el.append(root);
  const values = hoverValues(figure, picture);

  function textOf(at) {
    return controls.map((control, index) => [control.name, control.options[at[index]]]);
  }

  const inWords = at => textOf(at).map(([, text], index) => `${controls[index].label} = ${text}`).join(", ");

  function move(index, value) {
    const at = [...model.get("at")];
    if (at[index] === value) return;
    at[index] = value;
    model.set("at", at);
    show();
    model.save_changes();
  }

  function sceneAt(key) {
    const stored = model.get("stored");
    const found = stored.scenes[key];
    if (!found) return null;
    const whole = part => (typeof part === "string" ? stored.pool[part] : part);
    const panels = found.panels.map(([base, marks]) => ({...whole(base), marks: marks.map(whole)}));
    return {...found, panels};
  }

  function show() {
    const at = model.get("at");
    inputs.forEach((one, index) => one.show(at[index]));
    const key = keyOf(at);
    const scene = sceneAt(key);
    if (scene) {
      clearTimeout(waiting);
      draw(scene, at);
      picture.classList.remove("rl-old");
      say("");
    } else wait(at);
  }

  function draw(scene, at) {
    const seen = guess ? guess.masked(scene) : scene;
    const made = drawScene(seen, root.clientWidth || 800, {least: numTitles});
    numTitles = Math.max(numTitles, made.numTitles);
    guess?.draw(scene, made);
    picture.replaceChildren(made.svg);
    if (caption.textContent !== seen.caption) caption.textContent = seen.caption;
    values.set(made.points, made.down);
    drawn = {scene, at: [...at]};
  }

  function wait(at) {
    picture.classList.add("rl-old");
    const before = drawn ? ` The picture shows ${inWords(drawn.at)}.` : "";
    say(`Computing ${inWords(at)} ...${before}`);
    clearTimeout(waiting);
    const give = () => say(`${inWords(at)} is not stored: run the notebook for it.${before}`);
    if (model.isStatic) give();
    else waiting = setTimeout(give, PATIENCE);
  }

  function onMessage(message) {
    const stored = model.get("stored");
    Object.assign(stored.pool, message.pool ?? {});
    Object.assign(stored.scenes, message.scenes ?? {});
    if (keyOf(model.get("at")) in (message.scenes ?? {})) show();
  }

  function onAlarm() {
    alarm.textContent = model.get("message");
    if (alarm.textContent) {
      clearTimeout(waiting);
      say(drawn ? `The picture shows ${inWords(drawn.at)}.` : "");
    }
  }

  model.on("msg:custom", onMessage);
  model.on("change:at", show);
  model.on("change:message", onAlarm);
  const resized = new ResizeObserver(() => {
    if (!drawn || root.clientWidth === width) return;
    width = root.clientWidth;
    draw(drawn.scene, drawn.at);
  });
  resized.observe(root);
  const fromLink = linked(model.get("name"));
  controls.forEach((control, index) => {
    const place = control.options.indexOf(fromLink?.get(control.name) ?? "");
    if (place >= 0) move(index, place);
  });
  show();
  onAlarm();
  return () => {
    resized.disconnect();
    inputs.forEach(one => one.stop?.());
    clearTimeout(waiting);
    model.off("msg:custom", onMessage);
    model.off("change:at", show);
    model.off("change:message", onAlarm);
  };
}

// A slider with its value beside it, and a button that plays it; or a choice of names.
function makeControl(control, onMove) {
  const id = newId("control");
  const label = make("label", {for: id}, control.label);
  const last = control.options.length - 1;
  if (control.kind === "choice") {
    const options = control.options.map((text, index) => make("option", {value: index}, text));
    const select = make("select", {id, onchange: () => onMove(Number(select.value))}, ...options);
    const root = make("div", {class: "rl-control", "data-name": control.name}, label, select);
    return {root, show: index => { select.value = index; }};
  }
  const value = make("output", {for: id});
  const range = make("input", {
    id, type: "range", min: 0, max: last, step: 1, oninput: () => { stop(); onMove(Number(range.value)); }});
  let timer = null;
  const play = make("button", {
    class: "rl-play", type: "button", "aria-pressed": "false", "aria-label": `play ${control.label}`,
    onclick: () => (timer ? stop() : start())}, "▶");
  function start() {
    play.setAttribute("aria-pressed", "true");
    play.textContent = "❚❚";
    if (Number(range.value) === last) onMove(0);
    timer = setInterval(() => {
      if (Number(range.value) >= last) stop();
      else onMove(Number(range.value) + 1);
    }, FRAME);
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.setAttribute("aria-pressed", "false");
    play.textContent = "▶";
  }
  const root = make("div", {class: "rl-control", "data-name": control.name}, label, range, value,
    ...(last > 1 ? [play] : []));
  return {root, stop, show: index => {
    range.value = index;
    value.textContent = control.options[index];
    range.setAttribute("aria-valuetext", control.options[index]);
  }};
}

// Values under the pointer: of the nearest point that is drawn.
function hoverValues(figure, picture) {
  const box = make("div", {class: "rl-value", hidden: true});
  figure.append(box);
  let points = [], down = 0;
  picture.addEventListener("pointermove", event => {
    const svg = picture.firstElementChild;
    const frame = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / frame.width || 1;
    const [left, top] = [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale - down];
    let nearest = null, least = 24 ** 2;
    for (const point of points) {
      const far = (point.left - left) ** 2 + (point.top - top) ** 2;
      if (far < least) [nearest, least] = [point, far];
    }
    box.hidden = !nearest;
    if (!nearest) return;
    const {x, y, mark, panel} = nearest;
    const named = panel.x.ticks.find(([value, text]) => value === x && text)?.[1] ?? shown(x);
    const name = mark.label ? `${mark.label}: ` : "";
    box.textContent = `${name}${shown(y)} at ${panel.x.label || "λ"} ${named}`;
    box.style.left = `${Math.min(nearest.left / scale + 12, frame.width - box.offsetWidth)}px`;
    box.style.top = `${(nearest.top + down) / scale - 28}px`;
  });
  picture.addEventListener("pointerleave", () => { box.hidden = true; });
  return {set: (found, above) => { [points, down] = [found, above]; box.hidden = true; }};
}

// Buttons below a figure: back to the start, a link, and files.
function makeTools({reset, link, scene, name}, say) {
  const button = (text, help, act) => make("button", {type: "button", title: help, onclick: act}, text);
  return make("div", {class: "rl-tools", role: "group", "aria-label": "this figure"},
    ...(reset ? [button("Reset", "All dials as they were at first", reset)] : []),
    ...(link ? [button("Copy link", "A link to this page with the dials as they are", async () => {
      const url = link();
      try {
        await navigator.clipboard.writeText(url);
        say("The link is in the clipboard.");
      } catch {
        say(`The browser does not let us copy; the link is ${url}`);
      }
    })] : []),
    button("SVG", "Save the picture as SVG", () => scene() && save(asSvg(scene()), "image/svg+xml", `${name()}.svg`)),
    button("PNG", "Save the picture as PNG", () => scene() && savePng(scene(), `${name()}.png`)),
    button("CSV", "Save the numbers that are drawn", () => scene() && save(asCsv(scene()), "text/csv", `${name()}.csv`)));
}

function asSvg(scene) {
  const {svg} = drawScene(scene, Infinity, {colours: inFile});
  svg.prepend(make("rect", {width: "100%", height: "100%", fill: "#ffffff"}));
  return new XMLSerializer().serializeToString(svg);
}

function save(content, type, name) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], {type}));
  make("a", {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function savePng(scene, name) {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(asSvg(scene))}`;
  await picture.decode();
  const canvas = make("canvas", {width: 2 * picture.width, height: 2 * picture.height});
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  canvas.toBlob(blob => save(blob, "image/png", name), "image/png");
}

// State in a link: `#rl.NAME?dial=value&...`.
function linkTo(name, state) {
  const url = new URL(location.href);
  url.hash = `rl.${name}?${new URLSearchParams(state)}`;
  return url.href;
}

function linked(name) {
  const [which, state] = location.hash.slice(1).split("?");
  return which === `rl.${name}` && state ? new URLSearchParams(state) : null;
}
