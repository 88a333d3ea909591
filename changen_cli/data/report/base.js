// Small helpers: elements (texts only ever become text nodes), numbers for people, the theme.

const byId = (id) => document.getElementById(id);

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const el = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const icon = (...paths) =>
  svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, paths.map((d) => svg("path", { d })));

function button(label, content, click, attributes) {
  return el("button", { type: "button", class: "button round", "aria-label": label, title: label, click, ...attributes }, content);
}

function swatch(color) {
  const mark = el("i", { class: "swatch" });
  mark.style.background = color;
  return mark;
}

const count = (number) => number.toLocaleString("en");
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

function percent(share) {
  const value = 100 * share;
  return `${value.toFixed(value && value < 10 ? 1 : 0)} %`;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const SUN = "M12 4V2M12 22v-2M4 12H2M22 12h-2M6 6L4.5 4.5M19.5 19.5L18 18M6 18l-1.5 1.5M19.5 4.5L18 6M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8";
const MOON = "M20 14.5A8 8 0 0 1 9.5 4A8 8 0 1 0 20 14.5";
const SYSTEM = "M12 3a9 9 0 1 0 0 18V3";
const THEMES = [["", "as the system", SYSTEM], ["light", "light", SUN], ["dark", "dark", MOON]];

// Storage may be forbidden, for files above all: the theme is then that of the system again next time.
function remember(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(key) ?? "";
    localStorage.setItem(key, value);
  } catch { /* as above */ }
  return value ?? "";
}

function setTheme(name) {
  const [key, word, path] = THEMES.find((theme) => theme[0] === name) ?? THEMES[0];
  if (key) document.documentElement.dataset.theme = key;
  else delete document.documentElement.dataset.theme;
  const label = `Theme: ${word}`;
  const control = byId("theme");
  control.replaceChildren(icon(path));
  control.setAttribute("aria-label", label);
  control.title = label;
  control.onclick = () => {
    const next = THEMES[(THEMES.findIndex((theme) => theme[0] === key) + 1) % THEMES.length][0];
    remember("changen-report-theme", next);
    setTheme(next);
  };
}
