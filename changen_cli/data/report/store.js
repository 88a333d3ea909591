// The data: an overview, and one sample at a time, from the page itself or from the server of `changen report --serve`.

const DATA = JSON.parse(byId("data").textContent);
const UNKNOWN = 255;
const KEPT = 24;
const loaded = new Map();

function load(number) {
  if (!loaded.has(number)) {
    if (loaded.size >= KEPT) loaded.delete(loaded.keys().next().value);
    loaded.set(number, fetchSample(number));
  }
  return loaded.get(number);
}

async function fetchSample(number) {
  if (!DATA.served) return JSON.parse(byId(`sample-${number}`).textContent);
  const answer = await fetch(`samples/${number}.json`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

// A picture in the page has one size; the server has two.
const address = (picture, size) => (DATA.served ? `${picture}/${size}` : picture);

const kindOf = (key) => DATA.kinds.find((kind) => kind.key === key) ?? { key, word: key, color: "#8a94a0" };

function className(index) {
  return index === UNKNOWN ? "unknown" : DATA.classes[index]?.name ?? `class ${index}`;
}

function dateName(row, date) {
  return row.calendar?.[date] ?? `t${date}`;
}

// Outlines of events as paths in pixels of the tile.
function outlines(sample, events) {
  const { width, height } = sample.row;
  const box = { viewBox: `0 0 ${width} ${height}`, class: "outlines", preserveAspectRatio: "none", "aria-hidden": "true" };
  return svg("svg", box, events.filter((event) => event.outline).map((event) => {
    const { color } = kindOf(event.kind);
    return svg("path", { d: event.outline, stroke: color, fill: color });
  }));
}
