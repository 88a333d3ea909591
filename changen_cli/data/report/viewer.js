// One sample: two dates on the stage, a time line, overlays, its events and what is known of it.

const viewer = { sample: null, number: null, left: 0, right: 1, event: null, playing: 0, ask: 0 };
// Shown, opacity; on masks alone a tint would hide what a class is.
const overlays = { mask: [!DATA.has_images, DATA.has_images ? 0.5 : 1], changes: [true, DATA.has_images ? 0.3 : 0.1] };
let stage;

function openSample(number) {
  const hash = `#show-${number}`; // the name of no element: focus would go there
  if (location.hash !== hash) location.hash = hash; // shows it, and lets the browser's back button close it
  else showSample(number);
}

async function showSample(number) {
  const ask = ++viewer.ask;
  pause();
  const dialog = byId("viewer");
  if (!dialog.open) dialog.showModal();
  let sample;
  try {
    sample = await load(number);
  } catch (error) {
    if (ask === viewer.ask) byId("panel").replaceChildren(el("p", { class: "notice", role: "alert" }, error.message));
    return;
  }
  if (ask !== viewer.ask) return; // another one was asked for meanwhile
  Object.assign(viewer, { sample, number, left: 0, right: sample.masks.length - 1, event: null });
  const { row } = sample;
  byId("viewer-title").textContent = row.image_name;
  const facts = [`${row.width} × ${row.height} px`, row.gsd_m ? `${Number(row.gsd_m).toPrecision(3)} m/px` : "", plural(sample.events.length, "event")];
  byId("viewer-sub").textContent = facts.filter(Boolean).join(" · ");
  showPanel();
  showTimeline();
  stage.cut = 0.5;
  showDates();
  stage.reset();
  byId("panel").scrollTop = dialog.scrollTop = 0;
  const place = gallery.passing.findIndex((entry) => entry.n === number);
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place < 0 || place >= gallery.passing.length - 1;
}

function closeSample() {
  pause();
  viewer.ask++;
  byId("viewer").close();
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  byId("cards").querySelector(`[data-n="${viewer.number}"]`)?.focus();
}

function stepSample(by) {
  const place = gallery.passing.findIndex((entry) => entry.n === viewer.number);
  const next = gallery.passing[place + by];
  if (place >= 0 && next) openSample(next.n);
}

function showDates() {
  const { sample, left, right } = viewer;
  const { row, images, masks, events } = sample;
  const [from, to] = [Math.min(left, right), Math.max(left, right)];
  const between = events.map((event, place) => ({ ...event, place })).filter((event) => event.step >= from && event.step < to && event.outline);
  const marks = outlines(sample, between);
  [...marks.children].forEach((path, i) => { path.dataset.event = between[i].place; });
  const sides = [left, right];
  stage.show({
    size: [row.width, row.height],
    photos: sides.map((date) => images.length && address(images[date], "large")),
    masks: sides.map((date) => address(masks[date], "large")),
    names: sides.map((date) => dateName(row, date)),
    marks,
  });
  showOverlays();
  mark();
  byId("left").value = left;
  byId("right").value = right;
  const scrub = byId("scrub");
  scrub.value = right;
  scrub.setAttribute("aria-valuetext", dateName(row, right));
  [...byId("ticks").children].forEach((tick, date) => tick.classList.toggle("now", date === right));
}

function setDates(left, right) {
  const last = viewer.sample.masks.length - 1;
  viewer.left = clamp(left, 0, last);
  viewer.right = clamp(right, 0, last);
  showDates();
}

function showOverlays() {
  for (const [part, [shown, opacity]] of Object.entries(overlays)) {
    stage.setOverlay(part, shown, opacity);
    byId(`overlay-${part}`).checked = shown;
  }
}

function toggleOverlay(part) {
  overlays[part][0] = !overlays[part][0];
  showOverlays();
}

// Outline and list entry of the picked event, and of all others of its object.
function mark(hovered) {
  const picked = viewer.sample.events[hovered ?? viewer.event];
  const same = (place) => picked && viewer.sample.events[place].id === picked.id;
  for (const path of stage.marks.querySelectorAll("path")) path.classList.toggle("hot", Boolean(same(path.dataset.event)));
  for (const line of byId("panel").querySelectorAll(".event")) {
    const hot = Boolean(same(line.dataset.event));
    line.classList.toggle("hot", hot);
    line.setAttribute("aria-pressed", String(Number(line.dataset.event) === viewer.event));
  }
}

function pick(place, { zoom = false } = {}) {
  const again = viewer.event === place;
  viewer.event = again ? null : place;
  if (again) {
    mark();
    if (zoom) stage.reset();
    return;
  }
  const event = viewer.sample.events[place];
  overlays.changes[0] = true;
  const [from, to] = [Math.min(viewer.left, viewer.right), Math.max(viewer.left, viewer.right)];
  if (event.step < from || event.step >= to) setDates(event.step, event.step + 1);
  else { showOverlays(); mark(); }
  if (zoom) stage.focus(event.box);
  byId("panel").querySelector(`.event[data-event="${place}"]`)?.scrollIntoView({ block: "nearest" });
}

function showTimeline() {
  const { row, masks } = viewer.sample;
  const names = masks.map((_, date) => dateName(row, date));
  const select = (id, label, set) => el("label", { class: "pick" }, el("span", {}, label),
    el("select", { id, class: "field", "aria-label": `Date on the ${id}`, change: (event) => set(Number(event.target.value)) },
      names.map((name, date) => el("option", { value: date }, name))));
  const scrub = el("input", { id: "scrub", type: "range", min: 0, max: masks.length - 1, step: 1, "aria-label": "Date on the right, through time",
    input: (event) => { pause(); setDates(viewer.left, Number(event.target.value)); } });
  byId("timeline").replaceChildren(
    button("Play (Space)", icon("M8 5l11 7-11 7z"), () => (viewer.playing ? pause() : play()), { id: "play" }),
    select("left", "Left", (date) => setDates(date, viewer.right)),
    el("div", { class: "scrub" }, scrub, el("div", { id: "ticks", class: "ticks", "aria-hidden": "true" }, ticks(names))),
    select("right", "Right", (date) => setDates(viewer.left, date)));
}

// Too many names for the line: the first and the last one only.
const ticks = (names) => names.map((name, i) => el("span", {}, names.length <= 6 || i === 0 || i === names.length - 1 ? name : "·"));

function play() {
  if (viewer.playing) return;
  const control = byId("play");
  control.replaceChildren(icon("M8 5v14M16 5v14"));
  control.setAttribute("aria-label", "Pause (Space)");
  const advance = () => setDates(viewer.left, (viewer.right + 1) % viewer.sample.masks.length);
  advance();
  viewer.playing = setInterval(advance, 1100);
}

function pause() {
  if (!viewer.playing) return;
  clearInterval(viewer.playing);
  viewer.playing = 0;
  const control = byId("play");
  control.replaceChildren(icon("M8 5l11 7-11 7z"));
  control.setAttribute("aria-label", "Play (Space)");
}

const KEYS = {
  m: () => toggleOverlay("mask"), c: () => toggleOverlay("changes"),
  n: () => stepSample(1), p: () => stepSample(-1),
  ",": () => setDates(viewer.left, viewer.right - 1), ".": () => setDates(viewer.left, viewer.right + 1),
  " ": () => (viewer.playing ? pause() : play()),
  "+": () => stage.zoomBy(1.6), "=": () => stage.zoomBy(1.6), "-": () => stage.zoomBy(1 / 1.6), 0: () => stage.reset(),
  ArrowLeft: () => stage.setCut(stage.cut - STEP), ArrowRight: () => stage.setCut(stage.cut + STEP),
  Home: () => stage.setCut(0), End: () => stage.setCut(1),
};

function onKey(event) {
  if (!viewer.sample || event.ctrlKey || event.metaKey || event.altKey) return;
  const own = event.target.closest("input, select") || (event.target.closest("button, summary") && [" ", "Enter"].includes(event.key));
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (own || !act) return;
  event.preventDefault();
  act();
}

function setUpViewer() {
  stage = new Stage(byId("stage"), { onPick: (place) => pick(place), onZoom: () => {} });
  const dialog = byId("viewer");
  dialog.addEventListener("cancel", (event) => { event.preventDefault(); closeSample(); });
  dialog.addEventListener("keydown", onKey);
  byId("close").addEventListener("click", closeSample);
  byId("previous").addEventListener("click", () => stepSample(-1));
  byId("next").addEventListener("click", () => stepSample(1));
}
