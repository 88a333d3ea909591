// Charts as SVG, each with a name, a title per mark, and the same figures as a table.

const WIDE = 360;

function chart(title, hint, drawing, head, rows) {
  const table = el("details", {}, el("summary", {}, "as a table"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` },
    el("table", {}, el("thead", {}, el("tr", {}, head.map((name, i) => el("th", { scope: "col", class: i ? "number" : null }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value, i) => el(i ? "td" : "th", { class: i ? "number" : null, scope: i ? null : "row" }, String(value)))))))));
  const name = el("h3", {}, title);
  if (drawing.tagName === "svg") build(drawing, { role: "img", "aria-label": `${title}. ${hint}` }, []);
  return el("article", { class: "chart" }, name, hint ? el("p", {}, hint) : null, drawing, table);
}

function marked(mark, title) {
  mark.append(svg("title", {}, title));
  return mark;
}

function short(number) {
  if (number >= 1e6) return `${+(number / 1e6).toPrecision(2)}M`;
  return number >= 1e4 ? `${+(number / 1e3).toPrecision(2)}k` : String(number);
}

// Bars over labels. series: [{name, color, values}], stacked on one another or side by side.
function bars(labels, series, { stacked = true, tall = 150, legend = true } = {}) {
  const totals = labels.map((_, i) => stacked ? series.reduce((sum, one) => sum + one.values[i], 0) : Math.max(...series.map((one) => one.values[i])));
  const top = Math.max(1, ...totals);
  const step = WIDE / Math.max(1, labels.length);
  const crowded = step < 24;
  const drawing = svg("svg", { viewBox: `0 -16 ${WIDE} ${tall + 36}` }, svg("line", { class: "axis", x1: 0, x2: WIDE, y1: tall, y2: tall }));
  labels.forEach((label, i) => {
    let base = tall;
    const wide = Math.min(step * 0.74, 64);
    series.forEach((one, place) => {
      const high = (one.values[i] / top) * tall;
      if (!high) return;
      const width = stacked ? wide : wide / series.length;
      const x = step * (i + 0.5) - wide / 2 + (stacked ? 0 : place * width);
      const mark = svg("rect", { class: "bar", x, y: base - high, width, height: Math.max(high, 1), rx: 1.5, fill: one.color });
      drawing.append(marked(mark, `${label}, ${one.name}: ${count(one.values[i])}`));
      if (stacked) base -= high;
    });
    if (stacked && totals[i] && !crowded) {
      drawing.append(svg("text", { class: "value", x: step * (i + 0.5), y: base - 4, "text-anchor": "middle" }, short(totals[i])));
    }
    if (!crowded || i % 2 === 0) drawing.append(svg("text", { x: step * (i + 0.5), y: tall + 15, "text-anchor": "middle" }, label));
  });
  if (!legend || series.length < 2) return drawing;
  const holder = el("div", { role: "group" }, drawing, el("div", { class: "legend" }, series.map((one) => el("span", {}, swatch(one.color), one.name))));
  build(drawing, { "aria-hidden": "true" }, []);
  return holder;
}

function kindSeries(values) {
  return Object.entries(values).map(([key, numbers]) => ({ name: kindOf(key).word, color: kindOf(key).color, values: numbers }));
}

function barChart(title, hint, first, labels, series, options) {
  const rows = labels.map((label, i) => [label, ...series.map((one) => count(one.values[i]))]);
  return chart(title, hint, bars(labels, series, options), [first, ...series.map((one) => one.name)], rows);
}

function stepChart({ steps, by_step: values }) {
  const labels = Array.from({ length: steps }, (_, step) => `t${step}→t${step + 1}`);
  return barChart("Events per step", "Stacked by kind", "step", labels, kindSeries(values));
}

function areaChart({ area_edges: edges, by_area: values }) {
  const labels = edges.map((edge, i) => (i ? short(edge) : `<${edges[1]}`));
  return barChart("Event areas", "Changed pixels of an event, at least", "area, px", labels, kindSeries(values));
}

function shareChart({ share_edges: edges, shares }) {
  const labels = edges.map((edge) => `${+(100 * edge).toFixed(1)}`);
  const series = [{ name: "asked", color: "#9aa5b1", values: shares.asked }, { name: "made", color: "var(--accent)", values: shares.made }]
    .filter((one) => one.values.some((value) => value));
  return barChart("Changed share of a step", "Percent of the tile, at least", "share, %", labels, series, { stacked: false, tall: 140 });
}

// One row per class before, one column per class after; shade by changed area, number of events written in.
function matrixChart({ classes, matrix }) {
  const names = classes.map(className);
  const left = 92, size = (WIDE - left) / Math.max(1, classes.length), high = Math.min(size, 34), top = 70;
  const most = Math.max(1, ...matrix.flat().map(([, area]) => area));
  const drawing = svg("svg", { viewBox: `0 0 ${WIDE} ${top + high * classes.length + 6}` });
  const clip = (name, limit) => (name.length > limit ? `${name.slice(0, limit - 1)}…` : name);
  names.forEach((name, i) => {
    const x = left + size * (i + 0.5);
    drawing.append(svg("text", { x: x - 4, y: top - 8, transform: `rotate(-40 ${x - 4} ${top - 8})` }, clip(name, 14)));
    drawing.append(svg("text", { x: left - 8, y: top + high * (i + 0.5) + 4, "text-anchor": "end" }, clip(name, 14)));
    matrix[i].forEach(([events, area], j) => {
      const shade = events ? 0.14 + 0.86 * Math.sqrt(area / most) : 0.04;
      const cell = svg("rect", { class: "cell", x: left + size * j, y: top + high * i, width: size, height: high, rx: 5, fill: "var(--accent)", "fill-opacity": shade });
      drawing.append(marked(cell, `${name} to ${names[j]}: ${plural(events, "event")}, ${count(area)} px`));
      if (!events || size < 22) return;
      const ink = shade > 0.6 ? "fill: var(--accent-ink)" : "";
      const label = svg("text", { class: "value", x: left + size * (j + 0.5), y: top + high * (i + 0.5) + 4, "text-anchor": "middle", "pointer-events": "none" }, short(events));
      label.style.cssText = ink;
      drawing.append(label);
    });
  });
  const rows = names.flatMap((name, i) => matrix[i].map(([events, area], j) => [`${name} to ${names[j]}`, count(events), count(area)]).filter((row) => row[1] !== "0"));
  return chart("Transitions", "From the class of the row to that of the column: events, shaded by area", drawing, ["change", "events", "px"], rows);
}

// Figures of evaluation.json: those named after an AUC as bars from chance upwards, above those of real pairs and with
// the bar each is judged by, where there are such; all of them as a table.
function auditChart(figures) {
  const told = (value) => (typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4) : String(value));
  const known = new Map(figures);
  const beside = (name, what) => known.get(name.replace(/auc$/i, what));
  const aucs = figures.filter(([name, value]) => typeof value === "number" && /auc/i.test(name) && !/real_auc$/i.test(name) && value >= 0 && value <= 1).slice(0, 24);
  const rows = figures.map(([name, value]) => [name, told(value)]);
  if (!aucs.length) {
    const made = chart("Audit", "Figures of evaluation.json", el("div"), ["figure", "value"], rows);
    made.querySelector("details").open = true;
    return made;
  }
  const compared = aucs.some(([name]) => typeof beside(name, "real_auc") === "number");
  const row = compared ? 28 : 22, place = (value) => 150 + (WIDE - 190) * clamp((value - 0.5) / 0.5, 0, 1);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDE} ${row * aucs.length + 20}` });
  const foot = row * aucs.length + 4;
  const line = (value, top, low) => svg("line", { class: "bound", x1: place(value), x2: place(value), y1: top, y2: low });
  aucs.forEach(([name, value], i) => {
    const y = row * i + 4, words = name.replace(/^shortcuts\./, "").replace(/\.auc$/, "").replace(/[._]/g, " ");
    const label = words.length > 24 ? `…${words.slice(-23)}` : words;
    const bar = beside(name, "bar"), limit = typeof bar === "number" ? bar : 0.65, real = beside(name, "real_auc");
    const fill = value > limit ? "var(--bad)" : "var(--accent)";
    drawing.append(svg("text", { x: 0, y: y + 12 }, label));
    drawing.append(marked(svg("rect", { class: "bar", x: place(0.5), y, width: Math.max(2, place(value) - place(0.5)), height: 15, rx: 3, fill }), `${words}: ${told(value)}, wanted at most ${told(limit)}`));
    drawing.append(svg("text", { class: "value", x: place(value) + 6, y: y + 12 }, value.toFixed(2)));
    if (typeof real === "number") {
      drawing.append(marked(svg("rect", { class: "bar real", x: place(0.5), y: y + 16, width: Math.max(2, place(real) - place(0.5)), height: 6, rx: 2, fill: "#9aa5b1" }), `${words}, real pairs: ${told(real)}`));
    }
    if (compared) drawing.append(line(limit, y - 2, y + row - 4));
  });
  if (!compared) drawing.append(line(0.65, 0, foot), svg("text", { x: place(0.65), y: foot + 12, "text-anchor": "middle" }, "0.65"));
  drawing.append(svg("text", { x: place(0.5), y: foot + 12, "text-anchor": "middle" }, "0.5"));
  const hint = compared ? "; real pairs in grey, lines: what is wanted at most" : "";
  return chart("Audit", `How well a cue alone gives the label away (ROC AUC, from 0.5, chance${hint})`, drawing, ["figure", "value"], rows);
}

function showCharts() {
  const { figures, audit } = DATA;
  const drawn = [];
  if (figures.steps && Object.keys(figures.by_step).length) drawn.push(stepChart(figures), areaChart(figures), matrixChart(figures));
  if (figures.shares.made) drawn.push(shareChart(figures));
  if (audit.length) drawn.push(auditChart(audit));
  byId("charts").replaceChildren(...drawn);
  byId("charts-hint").textContent = `of all ${plural(DATA.total, "sample")}`;
  byId("charts-box").hidden = !drawn.length;
  byId("charts-box").open = window.innerWidth > 700; // on a phone the samples come first
}
