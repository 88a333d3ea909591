// Start: head, figures, gallery; the address says which sample is open.

function showHead() {
  byId("name").textContent = DATA.name;
  const shown = DATA.samples.length;
  byId("shown").textContent = shown === DATA.total ? `All ${plural(shown, "sample")}` : `${count(shown)} of ${plural(DATA.total, "sample")} shown, spread over the kinds of events; figures are of all`;
  byId("facts").replaceChildren(...DATA.facts.map(([label, value]) => el("div", {}, el("dt", {}, label), el("dd", {}, value))));
}

function followAddress() {
  const match = /^#show-(\d+)$/.exec(location.hash);
  const number = match ? Number(match[1]) : null;
  if (DATA.samples.some((entry) => entry.n === number)) showSample(number);
  else if (byId("viewer").open) closeSample();
}

setTheme(remember("changen-report-theme"));
showHead();
showCharts();
setUpViewer();
showGallery(openSample);
showRejects();
window.addEventListener("hashchange", followAddress);
followAddress();
