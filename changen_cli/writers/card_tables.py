"""The tables of a dataset card: figures, changes with their sizes, columns, classes, the recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

AREA_EDGES_PX = (0, 64, 256, 1024, 4096, 16384)
"""Lower edges of the bins of event areas."""
MAX_PAIRS = 40
EVALUATION_TITLE = "Evaluation"
"""Of the section that holds quality figures."""
_BARS = "·▁▂▃▄▅▆▇█"

KINDS = {
    "create": "object creation",
    "remove": "object removal",
    "swap": "object relocation",
    "grow": "neighbourhood growth",
    "alter": "building extension and partial demolition",
    "transition": "class transition",
    "damage": "building damage",
}

_COLUMNS = {
    "image_name": "the sample's id",
    "scene_id": "the scene it was made from",
    "group": "the source image or place; split by it",
    "source_path": "the source image, relative to the input folder",
    "variant": "the k-th sample of its scene",
    "seed": "seed of the run",
    "split": "split at the time of writing",
    "dates": "dates of the series",
    "calendar": "calendar dates, as asked for",
    "height": "px",
    "width": "px",
    "gsd_m": "metres per pixel, or null",
    "crs": "EPSG code or WKT, or null",
    "transform": "[a, b, c, d, e, f]: (col, row) to map units, or null",
    "event_count": "events of the whole series",
    "changed_fraction": "per step: share of the pixels that change",
    "asked": "per step: share asked for",
    "reached": "per step: share reached",
    "met": "per step: whether within 20 %",
    "notes": "per step: why not",
    "negative": "whether nothing was to change",
    "attempt": "which attempt at the sample this is, from 0",
    "rejected": "why the attempts before it were rejected",
    "quality": "per step: what the quality gate measured, means by area",
    "nuisance": "strength of the variation without change",
    "rim_px": "pixels unknown because an image shows something displaced there",
    "acquisition": "per date: what was drawn for its acquisition",
    "change_mask": "change mask from t1 to t2",
    "change_masks": "change masks of all steps",
    "image": "images of all dates",
    "mask": "semantic masks of all dates",
    "change": "change masks of all steps",
    "instance": "instance masks of all dates",
    "objects": "object ids by number: a JSON object as text",
    "objects_file": "object ids by number: a JSON file",
    "events": "event log: a JSON array as text",
    "events_file": "event log: a JSON Lines file",
}

_DATED = {"image": "image", "mask": "semantic mask", "instances": "instance mask: object numbers"}


def cell(value: Any) -> str:
    """One line, safe in a table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[int] = ()) -> str:
    """A Markdown table; the columns named by ``right`` are aligned there."""
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def figures_table(facts: Mapping[str, Any]) -> str:
    """The figures of a dataset; empty without any."""
    figures: Mapping[str, Any] = facts.get("figures") or {}
    return table(("figure", "value"), figures.items()) if figures else ""


def changes_section(facts: Mapping[str, Any]) -> str:
    """What changed into what, how often and how large; empty where nobody counted."""
    changes: Mapping[str, Any] = facts.get("changes") or {}
    kinds, pairs = changes.get("kinds") or [], changes.get("pairs") or []
    if not kinds:
        return ""
    head = ["change", "events", "changed px", "mean px", "smallest", "largest", "sizes", *_bin_names()]
    rows = [
        [
            f"{KINDS.get(row['kind'], row['kind'])} (`{row['kind']}`)",
            *(f"{row[key]:,}" for key in ("events", "area_px")),
            f"{row['area_px'] / row['events']:,.0f}",
            *(f"{row[key]:,}" for key in ("smallest_px", "largest_px")),
            bars(row["histogram"]),
            *(f"{count:,}" for count in row["histogram"]),
        ]
        for row in kinds
    ]
    shown = sorted(pairs, key=lambda row: -row["area_px"])[:MAX_PAIRS]
    by_class = table(
        ("change", "from", "to", "events", "changed px"),
        ([f"`{r['kind']}`", r["from"], r["to"], f"{r['events']:,}", f"{r['area_px']:,}"] for r in shown),
        right=(3, 4),
    )
    rest = f"\n\n{len(pairs) - len(shown)} rarer ones are not shown." if len(pairs) > len(shown) else ""
    return (
        "## Changes\n\nEvents by kind, with the number of events in each range of areas (pixels):\n\n"
        f"{table(head, rows, right=(1, 2, 3, 4, 5, *range(7, len(head))))}\n\n"
        f"By class before and after:\n\n{by_class}{rest}"
    )


def _bin_names() -> list[str]:
    edges = [f"{edge:,}" for edge in AREA_EDGES_PX]
    return [f"< {edges[1]}", *(f"≥ {edge}" for edge in edges[1:])]


def bars(counts: Sequence[int]) -> str:
    """A histogram in one word: one bar per bin, the fullest bin at full height, dots for empty ones."""
    top = max(counts, default=0) or 1
    # Rounded up: what is there is seen.
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // top)] for count in counts)


def evaluation_section(facts: Mapping[str, Any]) -> str:
    """Quality figures, where the dataset was evaluated."""
    figures: Mapping[str, Any] = facts.get("evaluation") or {}
    if not figures:
        return ""
    return f"## {EVALUATION_TITLE}\n\n{table(('figure', 'value'), figures.items())}"


def classes_table(facts: Mapping[str, Any]) -> str:
    """Class ids, names and colours; empty without names."""
    names: Sequence[str] = facts.get("classes") or ()
    if not names:
        return ""
    colors: Sequence[str] = facts.get("colors") or ()
    if not colors:
        return table(("id", "class"), [*enumerate(names), (255, "ignore")], right=(0,))
    rows = [(i, name, f"`{color}`") for i, (name, color) in enumerate(zip(names, colors, strict=True))]
    return table(("id", "class", "colour"), [*rows, (255, "ignore", "")], right=(0,))


def columns_section(facts: Mapping[str, Any]) -> str:
    """The columns and what they mean; empty where they are not known."""
    columns: Sequence[tuple[str, str]] = facts.get("columns") or ()
    if not columns:
        return ""
    rows = [(f"`{name}`", kind, _meaning(name)) for name, kind in columns]
    return f"## Columns\n\n{table(('column', 'type', 'meaning'), rows)}"


def _meaning(name: str) -> str:
    if name in _COLUMNS:
        return _COLUMNS[name]
    date, _, kind = name.partition("_")
    if date[:1] == "t" and date[1:].isdigit() and kind in _DATED:
        return f"{_DATED[kind]} of date {int(date[1:]) - 1}"
    return ""


def recipe_section(facts: Mapping[str, Any]) -> str:
    """The recipe and the versions, folded away."""
    recipe, versions = str(facts.get("recipe") or ""), facts.get("versions") or {}
    parts = []
    if recipe:
        parts.append(f"<details>\n<summary>Recipe</summary>\n\n```yaml\n{recipe.rstrip()}\n```\n\n</details>")
    if versions:
        told = ", ".join(f"{name} {version}" for name, version in versions.items())
        parts.append(f"Made with {told}.")
    return "\n\n".join(parts)
