// Draws a scene (see scenes.py) as SVG: text keeps its size, panels fill the width there is.

const TEXT = 12, LINE = 15, POINT = 1.2; // pixels; a point of matplotlib's
const INCH = 100, LEAST = 24; // of a panel's height

const ruler = typeof OffscreenCanvas === "undefined" ? null : new OffscreenCanvas(1, 1).getContext("2d");
const FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif";

function widthOf(text, size = TEXT, bold = false) {
  if (!ruler) return 0.55 * size * text.length;
  ruler.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

// Each widget of a page loads this module anew, so the page counts.
const newId = kind => `rl-${kind}-${(globalThis.rlCount = (globalThis.rlCount ?? 0) + 1)}`;

// An element; attributes that are undefined are left out.
function make(name, attributes = {}, ...children) {
  const isSvg = SVG_NAMES.has(name);
  const made = isSvg
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  // Or JupyterLab would take its keys: an arrow would open headings, and no slider move.
  if (FOCUSED.has(name)) made.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}
const FOCUSED = new Set(["input", "select", "button", "textarea", "summary", "a"]);
const SVG_NAMES = new Set(
  "svg g path line rect circle text image defs clipPath linearGradient stop title tspan".split(" "));

// Colours of the page, so that a theme may change under a drawing; in a file, those of the record.
const onPage = {
  ink: "var(--rl-ink)", paper: "var(--rl-paper)", grid: "var(--rl-grid)",
  // A light grey is faint on paper, and must be so on a dark page.
  of: colour => (/^#([b-e][0-9a-f])\1\1$/.test(colour)
    ? `color-mix(in oklab, ${colour}, black var(--rl-fade))`
    : `color-mix(in oklab, ${colour}, white var(--rl-lift))`),
};
const inFile = {ink: "#000000", paper: "#ffffff", grid: "#e0e0e0", of: colour => colour};

function wrapped(text, most, size = TEXT, bold = false) {
  const lines = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      const longer = line ? `${line} ${word}` : word;
      if (line && widthOf(longer, size, bold) > most) {
        lines.push(line);
        line = word;
      } else line = longer;
    }
    lines.push(line);
  }
  return lines;
}

function scaleOf(axis, from, to) {
  // What has no logarithm is far below, as in matplotlib.
  const of = axis.log ? value => Math.log10(Math.max(value, 1e-99)) : value => value;
  const [low, high] = axis.limits.map(of);
  return value => from + (to - from) * (of(value) - low) / (high - low || 1);
}

const MARKERS = {
  o: r => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  ".": r => MARKERS.o(r / 2),
  s: r => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  "^": r => `M0 ${-r}L${r} ${r}H${-r}z`,
  v: r => `M0 ${r}L${r} ${-r}H${-r}z`,
  "<": r => `M${-r} 0L${r} ${-r}V${r}z`,
  ">": r => `M${r} 0L${-r} ${-r}V${r}z`,
  D: r => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0z`,
  d: r => `M0 ${-1.3 * r}L${0.8 * r} 0L0 ${1.3 * r}L${-0.8 * r} 0z`,
  P: r => plus(r, r / 3),
  X: r => `M0 ${-r / 2.2}L${r / 1.8} ${-r}L${r} ${-r / 1.8}L${r / 2.2} 0L${r} ${r / 1.8}L${r / 1.8} ${r}` +
    `L0 ${r / 2.2}L${-r / 1.8} ${r}L${-r} ${r / 1.8}L${-r / 2.2} 0L${-r} ${-r / 1.8}L${-r / 1.8} ${-r}z`,
  x: r => `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`,
  "+": r => `M${-r} 0H${r}M0 ${-r}V${r}`,
  "|": r => `M0 ${-r}V${r}`,
  _: r => `M${-r} 0H${r}`,
  "*": r => star(r, 5), p: r => star(r, 5, 0.8), h: r => star(r, 6, 0.87), H: r => star(r, 6, 0.87),
};
const plus = (r, t) =>
  `M${-t} ${-r}H${t}V${-t}H${r}V${t}H${t}V${r}H${-t}V${t}H${-r}V${-t}H${-t}z`;

function star(r, points, inner = 0.42) {
  const corner = index => {
    const angle = -Math.PI / 2 + index * Math.PI / points;
    const radius = 1.25 * r * (index % 2 ? inner : 1);
    return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${[...Array(2 * points).keys()].map(corner).join("L")}z`;
}

const dashesOf = look => look.dashes?.map(each => (each * look.width * POINT).toFixed(1)).join(" ");

// One line of words; `turn` in degrees, counterclockwise as in matplotlib.
function words(text, x, y, {size = TEXT, fill, anchor = "start", bold, turn = 0} = {}) {
  return make("text", {
    x: x.toFixed(1), y: y.toFixed(1), "font-size": size, "font-family": FONT, fill,
    "text-anchor": anchor, "font-weight": bold ? 600 : undefined,
    transform: turn ? `rotate(${-turn} ${x.toFixed(1)} ${y.toFixed(1)})` : undefined,
  }, text);
}

// Numbers for a reader: four digits, and no more zeros than needed.
function shown(value) {
  if (!Number.isFinite(value)) return "none";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

// Rows of legend entries that fit; each has its place, and rows their height.
function legendRows(entries, width) {
  const rows = [];
  let left = 0;
  for (const entry of entries) {
    const sample = entry.colour === "none" && !entry.fill ? 0 : 34;
    const lines = wrapped(entry.label, width - sample);
    const own = sample + Math.max(...lines.map(line => widthOf(line))) + 14;
    if (!rows.length || left + own > width + 14) {
      rows.push([]);
      left = 0;
    }
    rows.at(-1).push({...entry, left, sample, lines});
    left += own;
  }
  return rows;
}

const heightOf = row => LINE * (Math.max(...row.map(entry => entry.lines.length)) + 0.15);
const legendHeight = (entries, width) =>
  legendRows(entries, width).reduce((sum, row) => sum + heightOf(row), 0);

function drawLegend(entries, left, top, width, paint, paintArea = paint) {
  const group = make("g");
  let y = top + 8;
  for (const row of legendRows(entries, width)) {
    for (const entry of row) {
      const x = left + entry.left;
      if (entry.width)
        group.append(make("line", {
          x1: x, x2: x + 28, y1: y, y2: y, stroke: paint(entry.colour), "stroke-opacity": entry.alpha,
          "stroke-width": entry.width * POINT, "stroke-dasharray": dashesOf(entry)}));
      if (entry.marker) group.append(marker(entry, x + 14, y, paint));
      else if (entry.fill && entry.width === undefined)
        group.append(make("rect", {
          x, y: y - 5, width: 28, height: 10, fill: paintArea(entry.fill), "fill-opacity": entry.alpha,
          stroke: paint(entry.colour)}));
      entry.lines.forEach((line, index) => group.append(
        words(line, x + entry.sample, y + 4 + index * LINE, {fill: paint("ink")})));
    }
    y += heightOf(row);
  }
  return group;
}

function marker(look, x, y, paint) {
  const shape = (MARKERS[look.marker] ?? MARKERS.o)(look.size * POINT / 2);
  return make("path", {
    d: shape, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, fill: paint(look.fill),
    stroke: paint(look.edge), "stroke-width": look.edge_width * POINT});
}

// A picture, what lies on it, and its legend keep their colours: it does not turn dark with the page.
const isPicture = panel => panel.marks.some(({kind}) => kind === "image" || kind === "areas");
const asOnPaper = colour => inFile[colour] ?? colour;

// An image without axes, one of several.
const isTile = ({x, y}) => !x.ticks.length && !y.ticks.length;

// How far words of a panel stand out at its sides.
function overflowOf(panel, width) {
  const over = {left: 0, right: 0};
  for (const mark of panel.marks) {
    if (mark.kind !== "text") continue;
    const x = mark.across?.includes("x") ? mark.x * width : scaleOf(panel.x, 0, width)(mark.x);
    const size = sizeOf(mark);
    const own = Math.max(...mark.text.split("\n").map(line => widthOf(line, size, mark.bold)));
    const left = x + mark.shift[0] * POINT - {start: 0, middle: own / 2, end: own}[mark.anchor];
    over.left = Math.max(over.left, -left);
    over.right = Math.max(over.right, left + own - width);
  }
  return over;
}

const barWidth = bar => 34 + Math.max(0, ...bar.ticks.map(([, text]) => widthOf(text, 11))) + LINE;

const sizeOf = mark => Math.max(10, mark.size * POINT);

// Room around the panel for its words, before panels of a row or a column share theirs.
function roomOf(panel, width) {
  const {x, y} = panel;
  const most = Math.max(0, ...y.ticks.map(([, text]) => widthOf(text)));
  const hasRoomBefore = isTile(panel) && panel.isFirst; // for its name: that of the row
  const name = y.label && !hasRoomBefore ? 5 + LINE * y.label.split("\n").length : 0;
  let left = (y.ticks.length ? most + 8 : 0) + name;
  const end = x.ticks.at(-1) ? widthOf(x.ticks.at(-1)[1]) / 2 : 0;
  let right = Math.max(10, Math.min(end, 60)) + (panel.bar ? barWidth(panel.bar) : 0);
  for (let pass = 0; pass < 3; pass++) { // what stands out moves as the panel shrinks
    const over = overflowOf(panel, Math.max(40, width - left - right));
    left = Math.max(left, over.left);
    right = Math.max(right, over.right);
  }
  const inner = Math.max(40, width - left - right);
  const each = inner / Math.max(1, x.ticks.length);
  const lines = x.ticks.map(([, text]) => wrapped(text, each));
  const isName = x.ticks.some(([, text]) => /[^\d.,−+\-–⁰¹²³⁴⁵⁶⁷⁸⁹× ]/.test(text));
  const rows = isName ? Math.max(0, ...lines.map(line => line.length)) : Math.min(1, x.ticks.length);
  const titles = panel.title ? wrapped(panel.title, inner + right - 6, TEXT, true) : [];
  return {
    left, right, lines, isName, titles,
    bottom: rows * LINE + (x.ticks.length ? 6 : 0) + (x.label ? LINE + 3 : 2),
    legend: legendHeight(panel.legend, inner),
    top: titles.length * LINE + 6,
  };
}

// Rectangles of all panels in pixels, and the height of all: side by side, or one below the other.
function placed(scene, width, height) {
  const full = INCH * scene.size[0];
  const blocks = new Map();
  for (const panel of scene.panels) {
    const [x, y, w, h] = panel.cell;
    const known = blocks.get(panel.block) ?? {x0: 1, y0: 1, x1: 0, y1: 0, panels: []};
    Object.assign(known, {
      x0: Math.min(known.x0, x), y0: Math.min(known.y0, y),
      x1: Math.max(known.x1, x + w), y1: Math.max(known.y1, y + h)});
    known.panels.push(panel);
    blocks.set(panel.block, known);
  }
  const inOrder = [...blocks.values()].sort((a, b) => a.y0 - b.y0 || a.x0 - b.x0);
  const isNarrow = width < 0.7 * full && inOrder.some(block => block.x1 - block.x0 < 0.95);
  const headings = new Map((scene.headings ?? []).map(one => [one.block, one.text]));
  const rects = new Map();
  const titles = [];
  let top = 0;
  for (const block of inOrder) {
    const heading = headings.get(block.panels[0].block);
    const rise = heading ? LINE + 6 : 0;
    const span = (block.y1 - block.y0) * height;
    const area = isNarrow
      ? {x: 0, y: top, w: width, h: span}
      : {x: block.x0 * width, y: block.y0 * height, w: (block.x1 - block.x0) * width, h: span};
    const named = block.panels.filter(panel => isTile(panel) && panel.y.label);
    const lines = named.map(({y}) => y.label.split("\n").length);
    const inset = lines.length ? 9 + LINE * Math.max(...lines) : 0;
    area.x += inset; // tiles of one size, with the names of their rows before them
    area.w -= inset;
    if (heading) titles.push({text: heading, x: area.x + 4, y: area.y + LINE});
    for (const panel of block.panels) {
      const [x, y, w, h] = panel.cell;
      panel.isFirst = x < block.x0 + 1e-6;
      panel.inset = inset;
      const [bw, bh] = [block.x1 - block.x0, block.y1 - block.y0];
      rects.set(panel, {
        x: area.x + (x - block.x0) / bw * area.w,
        y: area.y + rise + (y - block.y0) / bh * (area.h - rise),
        w: w / bw * area.w, h: h / bh * (area.h - rise)});
    }
    top += span;
  }
  return {rects, titles, height: (isNarrow ? top : height) + grown(scene.panels, rects, titles)};
}

// Rows too low for their words grow, and what is below moves down; returns by how much in all.
function grown(panels, rects, titles) {
  let total = 0;
  const rows = [...new Set(panels.map(panel => rects.get(panel).y))].sort((a, b) => a - b);
  for (const start of rows) {
    const row = panels.filter(panel => rects.get(panel).y === start + total);
    const lacks = row.map(panel => {
      const {w, h} = rects.get(panel), room = roomOf(panel, w);
      return room.top + room.bottom + room.legend + LEAST - h;
    });
    const more = Math.max(0, ...lacks);
    if (!more) continue;
    const end = Math.min(...row.map(panel => rects.get(panel).y + rects.get(panel).h));
    for (const panel of panels) {
      const rect = rects.get(panel);
      if (row.includes(panel)) rect.h += more;
      else if (rect.y >= end - 1) rect.y += more;
      else if (rect.y + rect.h > end) rect.h += more; // a panel beside several rows
    }
    for (const title of titles) if (title.y >= end) title.y += more;
    total += more;
  }
  return total;
}

// Panels of a row begin and end at one height, those of a column at one place.
function aligned(panels, rects) {
  const rooms = new Map(panels.map(panel => [panel, roomOf(panel, rects.get(panel).w)]));
  const most = (side, keyOf) => {
    const found = new Map();
    const keyFor = panel => `${keyOf(rects.get(panel)).toFixed(0)} ${isTile(panel)}`;
    for (const panel of panels)
      found.set(keyFor(panel), Math.max(found.get(keyFor(panel)) ?? 0, rooms.get(panel)[side]));
    return panel => found.get(keyFor(panel));
  };
  const [left, right] = [most("left", r => r.x), most("right", r => r.x + r.w)];
  const [top, bottom] = [most("top", r => r.y), most("bottom", r => r.y + r.h)];
  const legends = most("legend", r => r.y);
  const widest = panel => Math.min(...panels // those of a row with equal units have one size
    .filter(one => one.equal && rects.get(one).y === rects.get(panel).y)
    .map(one => rects.get(one).w - left(one) - right(one)));
  return panel => ({
    ...rooms.get(panel), widest: panel.equal ? widest(panel) : Infinity,
    left: left(panel), right: right(panel), bottom: bottom(panel),
    top: top(panel) + legends(panel), titleTop: top(panel)});
}

function drawPanel(panel, rect, room, paint, points, frames) {
  const group = make("g");
  let box = {x: rect.x + room.left, y: rect.y + room.top};
  box.w = Math.max(20, Math.min(rect.w - room.left - room.right, room.widest));
  box.h = Math.max(20, rect.h - room.top - room.bottom);
  if (panel.equal) {
    const [dx, dy] = [panel.x, panel.y].map(axis => Math.abs(axis.limits[1] - axis.limits[0]));
    const unit = Math.min(box.w / dx, box.h / dy);
    box = {x: box.x + (isTile(panel) ? (box.w - unit * dx) / 2 : 0), y: box.y + (box.h - unit * dy) / 2,
           w: unit * dx, h: unit * dy};
  }
  const x = scaleOf(panel.x, box.x, box.x + box.w), y = scaleOf(panel.y, box.y + box.h, box.y);
  frames.push({box, x, y});
  const place = mark => {
    const across = mark.across ?? [];
    return [across.includes("x") ? value => box.x + value * box.w : x,
            across.includes("y") ? value => box.y + box.h - value * box.h : y];
  };
  const clip = newId("clip");
  group.append(make("clipPath", {id: clip}, make("rect", {
    x: box.x - 5, y: box.y - 5, width: box.w + 10, height: box.h + 10})));
  drawGrid(panel, box, x, y, group, paint);
  const inside = make("g", {"clip-path": `url(#${clip})`});
  group.append(inside);
  const onPicture = isPicture(panel) ? asOnPaper : paint;
  for (const mark of panel.marks) {
    const [px, py] = place(mark);
    if (mark.kind === "line") drawLine(mark, px, py, inside, onPicture, panel, points);
    else if (mark.kind === "image") drawImage(mark, px, py, inside);
    else if (mark.kind === "area") drawArea(mark, px, py, inside, onPicture, panel, points);
    else if (mark.kind === "areas")
      for (const each of mark.areas) {
        const crisp = each.colour === "none";
        drawArea({...each, alpha: mark.alpha, crisp}, px, py, inside, onPicture);
      }
    else if (mark.kind === "text") drawText(mark, px, py, x, y, group, paint);
  }
  drawFrame(panel, box, room, rect, x, y, group, paint);
  const titleY = Math.min(rect.y + room.titleTop, box.y) - room.titles.length * LINE + LINE - 8;
  room.titles.forEach((line, index) => group.append(words(
    line, panel.centred ? box.x + box.w / 2 : box.x, titleY + index * LINE, {
      fill: paint(panel.title_colour), anchor: panel.centred ? "middle" : "start",
      bold: !panel.centred || panel.title_colour !== "ink"})));
  if (panel.legend.length)
    group.append(drawLegend(panel.legend, box.x, rect.y + room.titleTop - 4, box.w, paint));
  if (panel.bar) drawBar(panel.bar, box, group, paint);
  return group;
}

function drawGrid(panel, box, x, y, group, paint) {
  for (const [axis, scale, isX] of [[panel.x, x, true], [panel.y, y, false]]) {
    if (!axis.grid) continue;
    for (const [value] of axis.ticks) {
      const at = scale(value);
      group.append(make("line", isX
        ? {x1: at, x2: at, y1: box.y, y2: box.y + box.h, stroke: paint("grid")}
        : {x1: box.x, x2: box.x + box.w, y1: at, y2: at, stroke: paint("grid")}));
    }
  }
}

function drawFrame(panel, box, room, rect, x, y, group, paint) {
  const [right, bottom] = [box.x + box.w, box.y + box.h];
  const sides = {
    left: [box.x, box.y, box.x, bottom], right: [right, box.y, right, bottom],
    top: [box.x, box.y, right, box.y], bottom: [box.x, bottom, right, bottom]};
  for (const side of panel.frame) {
    const [x1, y1, x2, y2] = sides[side];
    group.append(make("line", {
      x1, y1, x2, y2, stroke: paint(panel.frame_colour),
      "stroke-width": Math.max(1, panel.frame_width * POINT)}));
  }
  let free = -Infinity; // labels that would overlap are left out
  panel.x.ticks.forEach(([value, text], index) => {
    const at = x(value);
    const lines = room.isName ? room.lines[index] : [text];
    const half = Math.max(...lines.map(line => widthOf(line))) / 2;
    group.append(make("line", {x1: at, x2: at, y1: bottom, y2: bottom + 4, stroke: paint("ink")}));
    if (!room.isName && at - half < free) return;
    free = at + half + 4;
    lines.forEach((line, row) => group.append(words(
      line, at, bottom + 16 + row * LINE, {fill: paint("ink"), anchor: "middle"})));
  });
  free = Infinity;
  for (const [value, text] of panel.y.ticks) {
    const at = y(value);
    group.append(make("line", {x1: box.x - 4, x2: box.x, y1: at, y2: at, stroke: paint("ink")}));
    if (Math.abs(at - free) < 11) continue;
    free = at;
    group.append(words(text, box.x - 7, at + 4, {fill: paint("ink"), anchor: "end"}));
  }
  if (panel.x.label)
    group.append(words(panel.x.label, box.x + box.w / 2, bottom + room.bottom - 4, {
      fill: paint("ink"), anchor: "middle"}));
  if (panel.y.label) {
    const middle = box.y + box.h / 2;
    const lines = wrapped(panel.y.label, rect.h);
    const start = isTile(panel) && panel.isFirst ? panel.inset : room.left;
    lines.forEach((line, index) => group.append(words(
      line, box.x - start + 12 + index * LINE, middle, {
        fill: paint("ink"), anchor: "middle", turn: 90})));
  }
}

function drawLine(mark, px, py, group, paint, panel, points) {
  let path = "", pen = "M";
  mark.x.forEach((value, index) => {
    if (value === null || mark.y[index] === null) {
      pen = "M";
      return;
    }
    path += `${pen}${px(value).toFixed(1)} ${py(mark.y[index]).toFixed(1)}`;
    pen = "L";
    if (points && !mark.across)
      points.push({left: px(value), top: py(mark.y[index]), x: value, y: mark.y[index], mark, panel});
  });
  if (mark.width)
    group.append(make("path", {
      d: path, fill: "none", stroke: paint(mark.colour), "stroke-width": mark.width * POINT,
      "stroke-dasharray": dashesOf(mark), "stroke-linejoin": "round", "stroke-opacity": mark.alpha}));
  for (const index of mark.dots ?? [])
    if (mark.x[index] !== null && mark.y[index] !== null)
      group.append(marker(mark, px(mark.x[index]), py(mark.y[index]), paint));
}

function drawImage(mark, px, py, group) {
  const [left, right, bottom, top] = mark.extent;
  const [x0, x1, y0, y1] = [px(left), px(right), py(top), py(bottom)];
  group.append(make("image", {
    href: mark.href, x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0),
    height: Math.abs(y1 - y0), preserveAspectRatio: "none",
    transform: y0 > y1 ? `translate(0 ${y0 + y1}) scale(1 -1)` : undefined, // its first row is below
    style: mark.smooth ? undefined : "image-rendering: pixelated"}));
}

function drawArea(mark, px, py, group, paint, panel, points) {
  const ring = corners => `M${corners.map(([x, y]) => `${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("L")}`;
  const isOpen = mark.fill === "none";
  group.append(make("path", {
    d: mark.rings.map(each => ring(each) + (isOpen ? "" : "z")).join(""),
    fill: paint(mark.fill), stroke: mark.colour === "none" ? "none" : paint(mark.colour),
    "stroke-width": mark.width * POINT, "fill-opacity": mark.alpha, "stroke-opacity": mark.alpha,
    "fill-rule": "evenodd", "shape-rendering": mark.crisp ? "crispEdges" : undefined}));
  if (points && !mark.across && mark.rings.length === 1) {
    const xs = mark.rings[0].map(each => each[0]), ys = mark.rings[0].map(each => each[1]);
    const x = (Math.min(...xs) + Math.max(...xs)) / 2;
    const y = Math.abs(Math.max(...ys)) > Math.abs(Math.min(...ys)) ? Math.max(...ys) : Math.min(...ys);
    points.push({left: px(x), top: py(y), x, y, mark, panel});
  }
}

const BASELINES = {top: 0.9, center: 0.35, center_baseline: 0.35, baseline: 0, bottom: -0.2};

function drawText(mark, px, py, x, y, group, paint) {
  const size = sizeOf(mark);
  const [left, top] = [px(mark.x) + mark.shift[0] * POINT, py(mark.y) - mark.shift[1] * POINT];
  const lines = mark.text.split("\n");
  const lift = BASELINES[mark.baseline] ?? 0;
  const rise = lift > 0.5 ? 0 : lift > 0 ? (lines.length - 1) / 2 : lines.length - 1;
  if (mark.arrow) {
    const [x2, y2] = [x(mark.arrow.to[0]), y(mark.arrow.to[1])];
    group.append(make("line", {x1: left, y1: top, x2, y2, stroke: paint(mark.arrow.colour)}));
  }
  if (mark.ground) {
    const most = Math.max(...lines.map(line => widthOf(line, size, mark.bold))) + 6;
    const start = {start: 0, middle: most / 2, end: most}[mark.anchor];
    const up = top + (lift - rise * 1.2) * size;
    group.append(make("rect", {
      x: left - start - (mark.anchor === "start" ? 3 : 0), y: up - size, width: most, rx: 3,
      height: lines.length * 1.2 * size + 2, fill: paint("paper"), "fill-opacity": 0.8}));
  }
  lines.forEach((line, index) => group.append(words(
    line, left, top + (lift + (index - rise) * 1.2) * size, {
      size, fill: paint(mark.colour), anchor: mark.anchor, bold: mark.bold, turn: mark.turn})));
}

function drawBar(bar, box, group, paint) {
  const [left, step] = [box.x + box.w + 12, box.h / bar.colours.length];
  bar.colours.forEach((colour, index) => group.append(make("rect", {
    x: left, y: box.y + box.h - (index + 1) * step, width: 12, height: step + 0.5, fill: colour})));
  const scale = scaleOf({limits: bar.limits}, box.y + box.h, box.y);
  let free = Infinity;
  for (const [value, text] of bar.ticks) {
    const at = scale(value);
    if (Math.abs(at - free) < 13) continue;
    free = at;
    group.append(words(text, left + 16, at + 4, {fill: paint("ink"), size: 11}));
  }
  group.append(words(bar.label, left + barWidth(bar) - 16, box.y + box.h / 2, {
    fill: paint("ink"), anchor: "middle", turn: 90, size: 11}));
}

// Returns the `svg`, its `points` and panels (`frames`), and how far `down` these are moved; `least`
// are lines kept free for the title.
function drawScene(scene, available, {colours = onPage, least = 0} = {}) {
  const paint = colour => colours[colour] ?? (colour && colour !== "none" ? colours.of(colour) : "none");
  const width = Math.max(260, Math.min(available, INCH * scene.size[0]));
  const titles = scene.title ? wrapped(scene.title, width - 8, 14, true) : [];
  const rise = Math.max(titles.length, least) * 19 + (titles.length ? 6 : 0);
  const fall = scene.legend.length ? legendHeight(scene.legend, width - 16) + 8 : 0;
  const full = scene.size.map(each => each * INCH);
  const narrower = Math.max(0.72, Math.min(1, width / full[0])); // a little lower, too
  const area = Math.max(full[1] * narrower - rise - fall, 0.6 * full[1]);
  const {rects, titles: headings, height} = placed(scene, width, area);
  const total = rise + height + fall;
  const svg = make("svg", {
    xmlns: "http://www.w3.org/2000/svg", width, height: total.toFixed(0), role: "img",
    viewBox: `0 0 ${width.toFixed(0)} ${total.toFixed(0)}`, "aria-label": scene.alt});
  titles.forEach((line, index) => svg.append(words(line, 4, 16 + 19 * index, {
    size: 14, bold: true, fill: paint("ink")})));
  const body = make("g", {transform: `translate(0 ${rise})`});
  svg.append(body);
  const points = [], frames = [];
  const rooms = aligned(scene.panels, rects);
  for (const heading of headings)
    body.append(words(heading.text, heading.x, heading.y, {fill: paint("ink"), bold: true}));
  for (const panel of scene.panels)
    body.append(drawPanel(panel, rects.get(panel), rooms(panel), paint, points, frames));
  const paintArea = scene.panels.some(isPicture) ? asOnPaper : paint;
  if (fall) svg.append(drawLegend(scene.legend, 8, rise + height + 4, width - 16, paint, paintArea));
  return {svg, body, points, frames, down: rise, numTitles: titles.length};
}

// What a scene draws as rows of a table.
function asCsv(scene) {
  const quoted = text => `"${String(text).replaceAll('"', '""')}"`;
  const rows = ["panel,series,x,y"];
  scene.panels.forEach((panel, number) => {
    const name = quoted(panel.title || panel.y.label || `panel ${number + 1}`);
    for (const mark of panel.marks) {
      if (mark.kind === "line" && !mark.across)
        mark.x.forEach((x, index) => rows.push(
          `${name},${quoted(mark.label ?? "")},${x ?? ""},${mark.y[index] ?? ""}`));
      if (mark.kind === "area" && !mark.across && mark.rings.length === 1)
        for (const [x, y] of mark.rings[0]) rows.push(`${name},${quoted(mark.label ?? "")},${x},${y}`);
      if (mark.kind === "text") rows.push(`${name},${quoted(mark.text)},${mark.x},${mark.y}`);
    }
  });
  return rows.join("\n") + "\n";
}
