// The gallery: filters over the overview, cards that are drawn when they come into sight.

const BATCH = 48;
const gallery = { passing: [], drawn: 0, open: () => {} };
const filters = { kinds: new Set(), class: "", low: 0, high: 0, rejected: "", text: "", order: "number" };
const ORDERS = {
  number: ["as in the dataset", (a, b) => a.n - b.n],
  most: ["most change first", (a, b) => b.share - a.share || a.n - b.n],
  least: ["least change first", (a, b) => a.share - b.share || a.n - b.n],
  events: ["most events first", (a, b) => b.events - a.events || a.n - b.n],
};
const NONE = -1;

// Bounds of the area filter: fine below 10 %, where most changes are.
const SHARES = [0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1];

function passes(sample) {
  const { kinds, rejected, text } = filters;
  if (kinds.size && !sample.kinds.some((kind) => kinds.has(kind)) && !(kinds.has(NONE) && !sample.kinds.length)) return false;
  if (filters.class !== "" && !sample.classes.includes(Number(filters.class))) return false;
  if (sample.share < SHARES[filters.low] || (filters.high < SHARES.length - 1 && sample.share > SHARES[filters.high])) return false;
  if (rejected && Boolean(sample.rejected) !== (rejected === "yes")) return false;
  return !text || sample.id.toLowerCase().includes(text.toLowerCase());
}

function apply() {
  gallery.passing = DATA.samples.filter(passes).sort(ORDERS[filters.order][1]);
  gallery.drawn = 0;
  sight.disconnect();
  byId("cards").replaceChildren();
  const all = DATA.samples.length;
  byId("count").textContent = gallery.passing.length === all ? plural(all, "sample") : `${count(gallery.passing.length)} of ${plural(all, "sample")}`;
  byId("empty").hidden = gallery.passing.length > 0;
  drawMore();
}

function drawMore() {
  const next = gallery.passing.slice(gallery.drawn, gallery.drawn + BATCH);
  gallery.drawn += next.length;
  byId("cards").append(...next.map(card));
}

// Ids differ at their ends: tile and variant.
const shortName = (id) => (id.length > 24 ? `…${id.slice(-20)}` : id);

function card(entry) {
  const thumb = el("span", { class: "thumb" });
  const dots = el("span", { class: "dots" }, entry.kinds.map((place) => {
    const dot = el("i", { title: DATA.kinds[place].word });
    dot.style.background = DATA.kinds[place].color;
    return dot;
  }));
  const kinds = entry.kinds.map((place) => DATA.kinds[place].word).join(", ") || "nothing changes";
  const line = el("span", { class: "card-line" }, el("span", {}, percent(entry.share)), el("span", {}, plural(entry.events, "event")),
    entry.rejected ? el("span", { class: "flag" }, `${entry.rejected.length} rejected`) : null, dots);
  const label = `${entry.id}: ${kinds}, ${percent(entry.share)} changed, ${plural(entry.events, "event")}`;
  const open = el("button", { type: "button", class: "card", "aria-label": label, "data-n": entry.n, click: () => gallery.open(entry.n) },
    thumb, el("span", { class: "card-text" }, el("span", { class: "card-name", title: entry.id }, shortName(entry.id)), line));
  open.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse") return;
    const box = thumb.getBoundingClientRect();
    thumb.style.setProperty("--cut", `${clamp((100 * (event.clientX - box.left)) / box.width, 0, 100)}%`);
  });
  open.addEventListener("pointerleave", () => thumb.style.setProperty("--cut", "50%"));
  const item = el("li", {}, open);
  thumb.dataset.n = entry.n;
  sight.observe(thumb);
  return item;
}

const waiting = new WeakMap();

// Pictures are decoded when a card comes near the window, and let go of when it is far away.
const sight = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    clearTimeout(waiting.get(target));
    if (isIntersecting) waiting.set(target, setTimeout(fill, DATA.served ? 80 : 0, target)); // who scrolls past asks for nothing
    else target.replaceChildren();
  }
}, { rootMargin: "600px 0px" });

async function fill(thumb) {
  if (thumb.childElementCount) return;
  const number = Number(thumb.dataset.n);
  const layer = el("span", { class: "after" });
  thumb.append(layer);
  try {
    const sample = await load(number);
    const pictures = sample.images.length ? sample.images : sample.masks;
    const last = pictures.length - 1;
    const photo = (date) => el("img", { src: address(pictures[date], "small"), alt: "", decoding: "async" });
    if (layer.parentNode !== thumb) return;
    thumb.prepend(photo(0));
    const marks = outlines(sample, sample.events);
    marks.setAttribute("preserveAspectRatio", "xMidYMid slice");
    layer.append(photo(last), marks);
    thumb.append(el("span", { class: "line" }), el("span", { class: "when first" }, dateName(sample.row, 0)), el("span", { class: "when last" }, dateName(sample.row, last)));
  } catch (error) {
    thumb.append(el("span", { class: "when first" }, error.message));
  }
}

function chip(type, name, checked, change, ...content) {
  return el("label", { class: "chip" }, el("input", { type, name, checked, change }), content);
}

function kindFilter() {
  const occurring = (place) => DATA.samples.filter((sample) => (place === NONE ? !sample.kinds.length : sample.kinds.includes(place))).length;
  const kinds = DATA.kinds.map(({ word, color }, place) => ({ word, color, place }));
  const all = [...kinds, { word: "no event", color: "transparent", place: NONE }];
  const chips = all.filter(({ place }) => occurring(place)).map(({ word, color, place }) =>
    chip("checkbox", "kind", filters.kinds.has(place), (event) => {
      if (event.target.checked) filters.kinds.add(place);
      else filters.kinds.delete(place);
      apply();
    }, swatch(color), word, el("small", {}, count(occurring(place)))));
  return el("fieldset", {}, el("legend", {}, "Events, any of"), el("div", { class: "chips" }, chips));
}

function choice(id, name, options, value, change) {
  const control = el("select", { id, class: "field", change: (event) => change(event.target.value) },
    options.map(([key, word]) => el("option", { value: key, selected: key === value }, word)));
  return el("div", { class: "half" }, el("label", { class: "name", for: id }, name), control);
}

function areaFilter() {
  const last = SHARES.length - 1;
  const told = el("output", { for: "area-low area-high" });
  const tell = () => {
    told.textContent = filters.low || filters.high < last ? `${percent(SHARES[filters.low])} – ${percent(SHARES[filters.high])}` : "any";
  };
  const slider = (id, name, key) => el("input", {
    id, type: "range", min: 0, max: last, value: filters[key], "aria-label": name,
    input: (event) => {
      const value = Number(event.target.value);
      filters[key] = key === "low" ? Math.min(value, filters.high) : Math.max(value, filters.low);
      event.target.value = filters[key];
      event.target.setAttribute("aria-valuetext", percent(SHARES[filters[key]]));
      tell();
      apply();
    },
  });
  tell();
  return el("fieldset", {}, el("legend", {}, "Changed area"),
    el("div", { class: "range" }, slider("area-low", "Changed area, at least", "low"), slider("area-high", "Changed area, at most", "high"), told));
}

function showFilters() {
  const classes = [...new Set(DATA.samples.flatMap((sample) => sample.classes))].sort((a, b) => a - b);
  const parts = [kindFilter(), areaFilter()];
  if (classes.length > 2) {
    const options = [["", "any class"], ...classes.map((index) => [String(index), className(index)])];
    parts.push(choice("filter-class", "Class before or after", options, filters.class, (value) => { filters.class = value; apply(); }));
  }
  if (DATA.samples.some((sample) => sample.rejected)) {
    const options = [["", "all samples"], ["yes", "with rejected attempts"], ["no", "made at once"]];
    parts.push(choice("filter-rejected", "Rejected", options, filters.rejected, (value) => { filters.rejected = value; apply(); }));
  }
  const search = el("input", { id: "filter-text", class: "field", type: "search", placeholder: "part of the id", autocomplete: "off", value: filters.text,
    input: (event) => { filters.text = event.target.value; apply(); } });
  parts.push(el("div", { class: "half" }, el("label", { class: "name", for: "filter-text" }, "Name"), search));
  parts.push(choice("filter-order", "Order", Object.entries(ORDERS).map(([key, [word]]) => [key, word]), filters.order, (value) => { filters.order = value; apply(); }));
  byId("filters").replaceChildren(...parts);
}

function clearFilters() {
  filters.kinds.clear();
  Object.assign(filters, { class: "", low: 0, high: SHARES.length - 1, rejected: "", text: "" });
  showFilters();
  apply();
}

function showGallery(open) {
  gallery.open = open;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", clearFilters);
  clearFilters();
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && drawMore(), { rootMargin: "900px 0px" }).observe(byId("more"));
}
