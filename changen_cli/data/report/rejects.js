// Attempts that the quality gate turned down: why, and how they looked.

function showRejects() {
  const { rejects } = DATA;
  byId("rejects").hidden = !rejects.length;
  if (!rejects.length) return;
  const reasons = new Map();
  for (const { reason } of rejects) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  const told = [...reasons].map(([reason, number]) => `${reason} ${count(number)}`).join(", ");
  byId("rejects-hint").textContent = `${plural(rejects.length, "attempt")}: ${told}`;
  byId("rejects-box").addEventListener("toggle", () => {
    if (byId("rejects-list").childElementCount) return;
    byId("rejects-list").replaceChildren(...rejects.map(({ id, attempt, reason, picture }) => el("li", {}, el("figure", {},
      el("img", { src: picture, loading: "lazy", alt: `Attempt ${attempt} at ${id}: before, after with what failed outlined, and the largest of it near, before and after` }),
      el("figcaption", {}, el("strong", { class: "flag" }, reason), ` ${id}, attempt ${attempt}`)))));
  });
}
