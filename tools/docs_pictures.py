"""Make the pictures of ``docs/quickstart.md`` and ``docs/concepts.md`` with changen itself.

Usage: python tools/docs_pictures.py LANDCOVER

``LANDCOVER`` holds images/ beside masks/ of the Dubai set (CC0) with the classes below; all else is the bundled sample.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from changen_cli.core.recipe import build_recipe
from changen_cli.workflows.generate import generate
from changen_cli.writers.drawing import GREY, INK, LOOKS

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "images"
SAMPLE = ROOT / "changen_cli" / "data" / "sample"
CLASSES = "unlabelled,building,land,road,vegetation,water"
SIDE, GAP, LINE = 220, 8, 20
Box = tuple[int, int, int, int]


@dataclass
class Made:
    """One sample: images and coloured masks per date, change masks per step, events."""

    images: list[Image.Image]
    masks: list[Image.Image]
    changes: list[Image.Image]
    events: list[dict[str, Any]]


def make(source: Path, scratch: Path, **given: Any) -> Made:
    """Make one sample with the given keys of a recipe, and read it back."""
    sections: dict[str, Any] = {"source": {"input": str(source), "res": 512}, "limit": 1, "output": {"path": ""}}
    if source != SAMPLE:
        sections["source"] |= {"classes": CLASSES, "layout": "pairs"}
    for key, value in given.items():
        section, _, name = key.partition("__")
        sections[section] = sections.get(section, {}) | {name: value} if name else value
    out = scratch / f"{len(list(scratch.iterdir()))}"
    sections["output"]["path"] = str(out)
    generate(build_recipe(sections))
    row = json.loads((out / "train" / "metadata.jsonl").read_text().splitlines()[0])
    classes = json.loads((out / "classes.json").read_text())["classes"]
    colours = {entry["id"]: tuple(entry["color"]) for entry in classes}
    dates = range(1, row["dates"] + 1)
    changes = row.get("change_file_names") or [row["change_mask_file_name"]]
    return Made(
        [opened(out, row[f"t{date}_image_file_name"]).convert("RGB") for date in dates],
        [coloured(opened(out, row[f"t{date}_mask_file_name"]), colours) for date in dates],
        [opened(out, name).convert("RGB") for name in changes],
        [json.loads(line) for line in (out / "train" / row["events_file"]).read_text().splitlines()],
    )


def opened(out: Path, name: str) -> Image.Image:
    """An image file of a dataset."""
    return Image.open(out / "train" / name)


def coloured(mask: Image.Image, colours: dict[int, tuple[int, ...]]) -> Image.Image:
    """A semantic mask in the colours of its classes; unknown pixels grey."""
    table = np.full((256, 3), 150, np.uint8)
    for index, colour in colours.items():
        table[index] = colour
    return Image.fromarray(table[np.asarray(mask)])


def around(event: dict[str, Any], side: int, size: int = 512) -> Box:
    """A square about an event, as PIL wants it."""
    row0, col0, row1, col1 = event["bbox"]
    top, left = ((max(0, min(size - side, (a + b) // 2 - side // 2))) for a, b in ((row0, row1), (col0, col1)))
    return left, top, left + side, top + side


def outlined(image: Image.Image, events: Sequence[dict[str, Any]]) -> Image.Image:
    """An image with the outlines of events drawn over it; their polygons are well-known text."""
    image = image.copy()
    pen = ImageDraw.Draw(image)
    for event in events:
        for ring in re.findall(r"\(([^()]+)\)", event["polygon"]):
            points = [tuple(map(float, point.split())) for point in ring.split(",")]
            pen.line([*points, points[0]], fill=LOOKS[event["kind"]][1], width=3)
    return image


def sheet(
    rows: Sequence[Sequence[Image.Image]], heads: Sequence[str], names: Sequence[str] = (), side: int = SIDE
) -> Image.Image:
    """Rows of square panels, with a word above each column and before each row."""
    left = 96 if names else 0
    width = left + len(rows[0]) * (side + GAP) - GAP
    page = Image.new("RGB", (width, LINE + len(rows) * (side + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for column, head in enumerate(heads):
        pen.text((left + column * (side + GAP), 1), head, INK, font)
    for index, row in enumerate(rows):
        top = LINE + index * (side + GAP)
        if names:
            pen.multiline_text((0, top + 4), names[index], GREY, font)
        for column, panel in enumerate(row):
            page.paste(panel.resize((side, side), Image.Resampling.LANCZOS), (left + column * (side + GAP), top))
    return page


def save(page: Image.Image, name: str) -> None:
    """As JPEG of at most 300 kB."""
    for quality in (88, 82, 76, 70, 62):
        page.save(TARGET / name, quality=quality, optimize=True)
        if (TARGET / name).stat().st_size <= 300_000:
            break
    print(TARGET / name, page.size, (TARGET / name).stat().st_size)


def first_look(scratch: Path) -> None:
    """The contact sheet of the quick start's first scene."""
    out = scratch / "demo"
    recipe = {"source": {"input": str(SAMPLE), "res": 1024}, "events": {"steps": 3}, "limit": 1}
    generate(build_recipe(recipe | {"output": {"path": str(out)}}))
    with Image.open(out / "preview.png") as page:
        save(
            page.convert("RGB").resize((page.width * 3 // 5, page.height * 3 // 5), Image.Resampling.LANCZOS),
            "demo.jpg",
        )


def series(scratch: Path) -> None:
    """Four dates: images, masks, change masks."""
    made = make(SAMPLE, scratch, events__steps=3, events__change_area="6-10%", seed=3)
    blank = Image.new("RGB", (512, 512), "white")
    rows = [made.images, made.masks, [blank, *made.changes]]
    heads = ["date 0: the source", "date 1", "date 2", "date 3"]
    save(sheet(rows, heads, ["image", "semantic\nmask", "change\nmask"]), "series.jpg")


def synthesis(scratch: Path) -> None:
    """One creation and one removal: source, mask, pasted start, drawn, as an acquisition."""
    common: dict[str, Any] = {"events__change_area": "8%", "seed": 5}
    pasted = make(SAMPLE, scratch, synthesis__strength=0, synthesis__nuisance="none", **common)
    drawn = make(SAMPLE, scratch, synthesis__nuisance="none", **common)
    seen = make(SAMPLE, scratch, **common)
    rows = []
    for kind in ("create", "remove"):
        event = max((e for e in drawn.events if e["kind"] == kind), key=lambda e: e["area_px"])
        box = around(event, 150)
        panels = [drawn.images[0], outlined(drawn.masks[1], [event]), pasted.images[1], drawn.images[1], seen.images[1]]
        rows.append([panel.crop(box) for panel in panels])
    heads = ["1 before", "2 mask after", "3 start: real pixels", "4 drawn", "5 another acquisition"]
    save(sheet(rows, heads), "synthesis.jpg")


def kinds(scratch: Path, landcover: Path) -> None:
    """Every kind of event: before, what changes, after."""
    found = []
    for kind in LOOKS:
        source = landcover if kind in ("grow", "transition", "alter") else SAMPLE
        given: dict[str, Any] = {"events__kinds": [kind], "events__change_area": "8%", "synthesis__nuisance": "none"}
        made = make(source, scratch, seed=2, **given, **({"events__disaster": "wind"} if kind == "damage" else {}))
        own = [event for event in made.events if event["kind"] == kind]
        box = around(max(own, key=lambda event: event["area_px"]), 200)
        panels = [made.images[0], outlined(made.images[1], own), made.masks[1]]
        found.append([panel.crop(box) for panel in panels])
    half, names, heads = (len(found) + 1) // 2, list(LOOKS), ["before", "after", "mask after"]
    pages = [sheet(found[part], heads, names[part], 150) for part in (slice(half), slice(half, None))]
    page = Image.new("RGB", (pages[0].width + 24 + pages[1].width, pages[0].height), "white")
    page.paste(pages[0], (0, 0))
    page.paste(pages[1], (pages[0].width + 24, 0))
    save(page, "kinds.jpg")


def main(arguments: list[str]) -> int:
    """Make all pictures."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        first_look(Path(name))
        series(Path(name))
        synthesis(Path(name))
        kinds(Path(name), Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
