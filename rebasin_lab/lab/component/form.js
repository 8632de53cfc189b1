// A form of choices, with a button that starts long work. What cannot be is refused where it is
// typed, before the kernel hears of it; what only the kernel can refuse stands at the same place.

const LONGEST_ALARM = 240; // letters; the rest of a longer error is folded

function renderForm({model, el}) {
  let clean = renderFields({model, el});
  const anew = () => {
    clean();
    el.replaceChildren();
    clean = renderFields({model, el});
  };
  model.on("change:fields", anew);
  return () => {
    model.off("change:fields", anew);
    clean();
  };
}

function renderFields({model, el}) {
  const fields = model.get("fields").map(field => makeField(field, value => choose(field.name, value)));
  const byPlace = place => fields.filter(one => one.field.place === place).map(one => one.root);
  const presets = model.get("presets").map(({name, story}, index) =>
    make("button", {type: "button", title: story, onclick: () => ask({preset: index})}, name));
  const story = make("div", {class: "rl-soft"});
  const start = make("button", {
    type: "button", class: "rl-start", title: "Train missing networks, match, and walk the lines",
    onclick: () => {
      const refused = fields.find(one => one.why());
      if (refused) status.textContent = `First choose another ${refused.field.label}: ${refused.why()}`;
      else ask({start: true}, "Starting ...");
    }}, model.get("start"));
  const stop = make("button", {
    type: "button", title: "Stop after the present epoch, which is stored",
    onclick: () => ask({stop: true}, "Stopping ...")}, "Stop");
  const progress = make("progress", {"aria-label": "how much is done"});
  const status = make("div", {class: "rl-status", role: "status"});
  const alarm = make("div", {class: "rl-alert", role: "alert"});
  const advanced = byPlace("advanced");
  const row = (...parts) => make("div", {class: "rl-controls"}, ...parts);
  const root = make("div", {class: "rl rl-form", role: "group", "aria-label": "choices"},
    ...(presets.length ? [make("div", {class: "rl-controls", role: "group", "aria-label": "examples"},
      make("span", {}, "examples"), ...presets)] : []),
    row(...byPlace("")), ...byPlace("wide"),
    ...(model.get("start") ? [make("div", {class: "rl-controls rl-folded"}, start, stop,
      ...(advanced.length ? [make("details", {}, make("summary", {}, "Advanced"), row(...advanced))] : []),
      makeHelp(fields.map(one => one.field)), progress), status, story, alarm] : []));
  el.append(root);
  let waiting = null;

  function choose(name, value) {
    model.set("values", {...model.get("values"), [name]: value});
    model.save_changes();
  }

  // Says so at once, for the kernel may be busy; or gone.
  function ask(what, text) {
    model.send(what);
    if (text) status.textContent = text;
    clearTimeout(waiting);
    waiting = setTimeout(() => { status.textContent = "No answer: run the cell that shows this, then again."; }, PATIENCE);
  }

  function show() {
    const [values, refused, off] = ["values", "refused", "off"].map(name => model.get(name));
    for (const one of fields) {
      one.show(values[one.field.name], off.includes(one.field.name));
      one.refuse(refused[one.field.name] ?? "");
    }
    const chosen = model.get("preset");
    presets.forEach((button, index) => button.setAttribute("aria-pressed", String(index === chosen)));
    story.textContent = model.get("presets")[chosen]?.story ?? "";
  }

  function tell() {
    clearTimeout(waiting);
    status.textContent = model.get("status");
    const [done, total] = model.get("progress");
    progress.hidden = !total;
    [progress.max, progress.value] = [total || 1, done];
    stop.disabled = !model.get("is_busy");
    const text = model.get("message");
    const rest = make("details", {}, make("summary", {}, "all of it"), text);
    alarm.replaceChildren(...(text.length > LONGEST_ALARM ? [`${text.slice(0, LONGEST_ALARM)} ...`, rest] : [text]));
  }

  const watched = [
    ...["values", "refused", "off", "preset"].map(name => [`change:${name}`, show]),
    ...["status", "progress", "is_busy", "message"].map(name => [`change:${name}`, tell])];
  for (const [event, act] of watched) model.on(event, act);
  show();
  tell();
  return () => {
    clearTimeout(waiting);
    for (const [event, act] of watched) model.off(event, act);
  };
}

// One field: its element, `show(value, isOff)` and `refuse(message)`.
function makeField(field, choose) {
  const id = newId("field");
  const why = make("span", {class: "rl-alert", role: "alert", id: `${id}-why`});
  const makeInputs = {choice: makeChoice, number: makeNumber, text: makeText, many: makeMany}[field.kind];
  const {inputs, input, show} = makeInputs(field, id, choose, message => refuse(message));
  const label = field.kind === "many"
    ? make("legend", {}, field.label) : make("label", {for: id, title: field.help}, field.label);
  const root = make(field.kind === "many" ? "fieldset" : "div", {class: `rl-control rl-${field.kind}`, "data-name": field.name},
    label, ...inputs, why);
  function refuse(message) {
    why.textContent = message;
    input?.setAttribute("aria-invalid", String(Boolean(message)));
    input?.setAttribute("aria-describedby", `${id}-why`);
  }
  return {field, root, refuse, why: () => why.textContent, show: (value, isOff) => {
    root.hidden = isOff;
    show(value);
  }};
}

function makeChoice({options}, id, choose) {
  const input = make("select", {id,
    onchange: () => choose(input.value)},
    ...options.map(([value, text, help]) => make("option", {value, title: help}, text)));
  return {inputs: [input], input, show: value => { input.value = value; }};
}

// Free text, so that what is no number can be shown and refused; a browser's own field drops it.
function makeNumber({least, most, is_whole: isWhole}, id, choose, refuse) {
  const input = make("input", {id, type: "text", inputmode: isWhole ? "numeric" : "decimal", size: 5,
    onchange: commit, onkeydown: step});
  let last = null; // text that was looked at
  function commit() {
    if (input.value === last) return;
    last = input.value;
    const value = Number(input.value);
    const isFine = input.value.trim() !== "" && value >= least && value <= most && (!isWhole || Number.isInteger(value));
    refuse(isFine ? "" : `Expected a ${isWhole ? "whole number" : "number"} from ${least} to ${most}; got “${input.value}”.`);
    if (isFine) choose(value);
  }
  function step(event) {
    if (event.key === "Enter") commit();
    const by = {ArrowUp: 1, ArrowDown: -1}[event.key];
    if (!by || !Number.isFinite(Number(input.value))) return;
    event.preventDefault();
    input.value = Math.min(most, Math.max(least, Number(input.value) + by));
    commit();
  }
  return {inputs: [input], input, show: value => {
    if (Number(input.value) !== value || !input.value) input.value = value;
    last = input.value;
  }};
}

function makeText({placeholder}, id, choose) {
  const input = make("input", {id, type: "text", size: 22, placeholder,
    onchange: commit, onkeydown: event => { if (event.key === "Enter") commit(); }});
  let last = null;
  function commit() {
    if (input.value !== last) choose(last = input.value);
  }
  return {inputs: [input], input, show: value => { input.value = last = value; }};
}

// Any of a few, each with its help.
function makeMany({options}, id, choose, refuse) {
  const boxes = options.map(([value, text, help], index) => {
    const box = make("input", {type: "checkbox", id: `${id}-${index}`, value, onchange: commit});
    return {box, root: make("span", {title: help}, box, make("label", {for: `${id}-${index}`}, text))};
  });
  function commit() {
    const chosen = boxes.filter(({box}) => box.checked).map(({box}) => box.value);
    refuse(chosen.length ? "" : "Expected one or more.");
    if (chosen.length) choose(chosen);
  }
  return {inputs: boxes.map(one => one.root), show: chosen => {
    for (const {box} of boxes) box.checked = chosen.includes(box.value);
  }};
}

// What each field means, and where a notebook teaches it.
function makeHelp(fields) {
  const rows = fields.flatMap(({label, help, options, link, kind}) => {
    const each = kind === "many" ? options.map(([, text, says]) => make("li", {}, `${text}: ${says}`)) : [];
    const see = link ? [" ", make("a", {href: link[1], target: "_blank", rel: "noopener"}, link[0])] : [];
    return [make("dt", {}, label), make("dd", {}, help, ...see, ...(each.length ? [make("ul", {}, ...each)] : []))];
  });
  return make("details", {}, make("summary", {}, "Help"), make("dl", {}, ...rows));
}
