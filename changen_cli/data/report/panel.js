// Beside the stage: overlays, the legend of classes, events by step, and everything known of the sample.

function showPanel() {
  const { row } = viewer.sample;
  const rejected = DATA.samples.find((entry) => entry.n === viewer.number)?.rejected;
  byId("panel").replaceChildren(
    ...(rejected ? [el("div", { class: "notice" }, el("strong", {}, `${plural(rejected.length, "rejected attempt")}: `), rejected.join("; "))] : []),
    el("section", { "aria-labelledby": "overlays-title" }, el("h3", { id: "overlays-title" }, "Overlays"),
      overlayRow("changes", "Changes", "C"), overlayRow("mask", "Classes", "M"), legend()),
    el("section", { "aria-labelledby": "events-title" }, el("h3", { id: "events-title" }, "Events"), stepList(row)),
    el("section", {}, el("details", {}, el("summary", {}, el("h3", {}, "About this sample")), aboutTable(row))),
    el("section", { class: "keys-box" }, el("details", {}, el("summary", {}, el("h3", {}, "Keys")), keyList())));
}

function overlayRow(part, name, key) {
  const [shown, opacity] = overlays[part];
  const toggle = el("input", { id: `overlay-${part}`, class: "switch", type: "checkbox", role: "switch", checked: shown,
    change: (event) => { overlays[part][0] = event.target.checked; showOverlays(); } });
  const range = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: opacity, "aria-label": `Opacity of ${name.toLowerCase()}`,
    input: (event) => { overlays[part] = [true, Number(event.target.value)]; showOverlays(); } });
  return el("div", { class: "overlay" }, el("label", {}, toggle, name), el("span", {}, el("kbd", { "aria-hidden": "true" }, key)), range);
}

function legend() {
  const kinds = new Set(viewer.sample.events.map((event) => event.kind));
  const shown = DATA.kinds.filter((kind) => kinds.has(kind.key)).map(({ word, color }) => el("span", {}, swatch(color), word));
  const classes = DATA.classes.map(({ name, color, clear }) => el("span", {}, swatch(clear ? "transparent" : color), clear ? `${name} (clear)` : name));
  return el("div", {}, el("div", { class: "legend" }, shown), el("div", { class: "legend" }, classes));
}

function stepList(row) {
  const { sample } = viewer;
  const steps = Array.from({ length: sample.masks.length - 1 }, (_, step) => step);
  return el("div", {}, steps.map((step) => {
    const events = sample.events.map((event, place) => [event, place]).filter(([event]) => event.step === step);
    const asked = row.asked?.[step];
    const told = `${percent(row.changed_fraction?.[step] ?? 0)} changed${asked ? `, ${percent(asked)} asked` : ""}`;
    const names = `${dateName(row, step)} → ${dateName(row, step + 1)}`;
    return el("div", {},
      el("button", { type: "button", class: "step-head", "aria-label": `Show ${names}: ${told}`, click: () => { pause(); setDates(step, step + 1); } }, names, el("span", {}, told)),
      row.notes?.[step] ? el("p", { class: "step-note" }, row.notes[step]) : null,
      events.length ? el("ul", {}, events.map(([event, place]) => eventLine(event, place))) : el("p", { class: "step-note" }, "Nothing changes."));
  }));
}

function eventLine(event, place) {
  const { word, color } = kindOf(event.kind);
  const dot = el("i", {});
  dot.style.background = color;
  const what = event.from === event.to ? className(event.to) : `${className(event.from)} → ${className(event.to)}`;
  const rest = [event.id, event.stage, event.origin ? `pixels from ${event.origin}` : ""].filter(Boolean).join(" · ");
  return el("li", {}, el("button", {
    type: "button", class: "event", "data-event": place, "aria-pressed": "false",
    pointerenter: () => mark(place), pointerleave: () => mark(), focus: () => mark(place), blur: () => mark(),
    click: () => { pause(); pick(place, { zoom: true }); },
  }, dot, el("span", {}, `${word}: ${what}`), el("span", { class: "area" }, `${count(event.area)} px`), el("small", {}, rest)));
}

// Whatever the row holds, also what later versions write: texts and numbers as they are, the rest as JSON.
function aboutTable(row) {
  const told = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 1).replace(/\n\s*/g, " "));
  const rows = Object.entries(row).filter(([, value]) => value !== null && value !== "");
  return el("table", {}, el("tbody", {}, rows.map(([key, value]) => el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, told(value))))));
}

function keyList() {
  const keys = [["← →", "move the divider; Home and End for one date alone"], [", .", "earlier, later date on the right"], ["Space", "play"], ["C M", "changes, classes"],
    ["+ - 0", "zoom; double click and wheel do, too"], ["N P", "next, previous sample"], ["Esc", "back to the samples"]];
  return el("div", { class: "keys" }, keys.map(([key, what]) => [el("kbd", {}, key), el("span", {}, what)]));
}
