"""What pictures for people share: colours of event kinds, painted masks, outlined changes, the legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from changen_cli.core.types import BoolArray, ChangeEvent, ClassSchema, EventKind, TimeSeries, UInt8Array

Color = tuple[int, int, int]

CREATED: Color = (0, 230, 118)
REMOVED: Color = (255, 45, 85)
EDITED: Color = (255, 179, 0)
LOOKS: dict[EventKind, tuple[str, Color]] = {
    "create": ("created", CREATED),
    "remove": ("removed", REMOVED),
    "grow": ("grown", (41, 182, 246)),
    "swap": ("moved", (126, 87, 194)),
    "alter": ("altered", (255, 112, 67)),
    "damage": ("damaged", (224, 64, 251)),
    "transition": ("edited", EDITED),
}
"""What each kind is called, and the colour it is drawn in."""

INK: Color = (28, 32, 38)
GREY: Color = (110, 117, 126)
RULE: Color = (222, 226, 230)
_HATCH: tuple[Color, Color] = ((205, 208, 212), (150, 155, 160))


def kind_map(sample: TimeSeries, t: int) -> UInt8Array:
    """Return the kinds of step ``t``, uint8 ``[H, W]``: 0 unchanged, else the place in :data:`LOOKS`, from 1."""
    pre, post = sample.masks[t], sample.masks[t + 1]
    changed = pre != post
    codes = {kind: np.uint8(code) for code, kind in enumerate(LOOKS, start=1)}
    kinds = np.where(changed, codes["transition"], np.uint8(0))
    # Boxes overlap; the classes tell whose pixel it is, and where they do not, the smaller event is the likelier.
    for event in sorted((e for e in sample.events if e.time_index == t), key=lambda e: -e.area_px):
        r0, c0, r1, c1 = event.bbox
        box = (slice(r0, r1), slice(c0, c1))
        own = np.isin(pre[box], list(event.from_areas_px)) & (post[box] == event.to_class)
        kinds[box][changed[box] & own] = codes[event.kind]
    return kinds


def kinds_of(events: Sequence[ChangeEvent]) -> str:
    """Return e.g. ``3 created, 2 removed``; empty where nothing happened."""
    # A swap is two events: where the object was, and where it is.
    counts = Counter(event.kind for event in events if event.kind != "swap" or event.placement is not None)
    return ", ".join(f"{counts[kind]} {word}" for kind, (word, _) in LOOKS.items() if counts[kind])


def percent(change: BoolArray) -> str:
    """Return the share of true pixels, e.g. ``4.1 %``."""
    return f"{100 * float(change.mean()):.1f} %"


def header(
    title: str, kinds: Collection[EventKind], schema: ClassSchema, width: int, subtitle: str = ""
) -> Image.Image:
    """Draw a heading and the legend of kinds (outlined) and classes (filled) below it; the legend wraps."""
    shown = [look for kind, look in LOOKS.items() if kind in kinds]
    entries: list[tuple[str, Any]] = list(shown)
    entries += [(name, tuple(color)) for name, color in zip(schema.names, schema.colors.tolist(), strict=True)]
    entries.append(("ignore", None))
    type_face = font(15)
    places: list[tuple[int, int]] = []
    x, y = 0, 72 if subtitle else 44
    for i, (name, _) in enumerate(entries):
        step = 24 + round(type_face.getlength(name)) + 22
        if x and x + step > width:
            x, y = 0, y + 28
        places.append((x, y))
        # A wider gap sets the outline colours apart from the classes.
        x += step + (16 if i == len(shown) - 1 else 0)
    picture = Image.new("RGB", (width, y + 32), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((0, 0), title, font=font(26), fill=INK)
    draw.text((0, 40), subtitle, font=type_face, fill=GREY)
    for i, ((name, color), (x, y)) in enumerate(zip(entries, places, strict=True)):
        box = (x, y, x + 16, y + 16)
        if i < len(shown):
            draw.rectangle(box, outline=color, width=3)
        elif color is None:
            picture.paste(Image.fromarray(_hatch(17, 17)), (x, y))
        else:
            draw.rectangle(box, fill=color, outline=GREY)
        draw.text((x + 24, y + 8), name, font=type_face, fill=INK, anchor="lm")
    return picture


def paint(mask: UInt8Array, schema: ClassSchema) -> UInt8Array:
    """Return a semantic mask ``[H, W]`` in class colours ``[H, W, 3]``, ignored pixels hatched."""
    table = np.full((256, 3), 128, np.uint8)
    table[: len(schema.names)] = schema.colors
    painted = table[mask]
    ignored = mask == schema.ignore_index
    painted[ignored] = _hatch(*mask.shape)[ignored]
    return np.asarray(painted, dtype=np.uint8)


def paint_changes(mask: UInt8Array, kinds: UInt8Array, schema: ClassSchema, size: tuple[int, int]) -> UInt8Array:
    """Paint the mask after a change: pale, but for what changed, which is outlined by kind.

    Args:
        mask: uint8 ``[H, W]``.
        kinds: uint8 ``[H, W]``, as of :func:`kind_map`.
        schema: Classes and colours.
        size: Width and height of the picture.
    """
    painted = paint(nearest(mask, size), schema)
    picture = np.asarray(painted * 0.35 + 160, dtype=np.uint8)
    changed = nearest(kinds, size) > 0
    picture[changed] = painted[changed]
    outline_kinds(picture, kinds, tint=0)
    return picture


def fit(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize a photograph to ``(width, height)``."""
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS))


def nearest(mask: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize a mask to ``(width, height)``."""
    return np.array(Image.fromarray(np.ascontiguousarray(mask)).resize(size, Image.Resampling.NEAREST))


def any_of(area: BoolArray, size: tuple[int, int]) -> BoolArray:
    """Resize an area so that a third of a cell is enough to show: small objects stay visible when shrunk."""
    gray = Image.fromarray(area.astype(np.uint8) * np.uint8(255))
    shrinking = size[0] < area.shape[1]
    return np.asarray(gray.resize(size, Image.Resampling.BOX if shrinking else Image.Resampling.NEAREST)) > 80


def outline(image: UInt8Array, area: BoolArray, color: Color, tint: float = 0.18) -> None:
    """Draw the border of ``area`` two pixels wide, just outside it, and tint its inside; in place."""
    if not area.any():
        return
    inside = (1 - tint) * image[area] + tint * np.asarray(color)
    image[area] = inside.astype(np.uint8)
    image[_grow(_grow(area)) & ~area] = color


def outline_kinds(image: UInt8Array, kinds: UInt8Array, tint: float = 0.18) -> None:
    """Outline the changes of a :func:`kind_map` of any size on ``image``, each kind in its colour; in place."""
    size = (image.shape[1], image.shape[0])
    for code, (_, color) in enumerate(LOOKS.values(), start=1):
        outline(image, any_of(kinds == code, size), color, tint)


def _grow(area: BoolArray) -> BoolArray:
    """Return ``area`` grown by one pixel in all eight directions."""
    padded = np.pad(area, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _hatch(height: int, width: int) -> UInt8Array:
    stripes = (np.add.outer(np.arange(height), np.arange(width)) // 4) % 2
    colors: UInt8Array = np.asarray(_HATCH, dtype=np.uint8)
    return np.asarray(colors[stripes])


def font(size: int) -> Any:
    """Pillow's own typeface, so that pictures do not depend on the machine."""
    return ImageFont.load_default(size=size)


def clip(text: str, width_px: int, type_face: Any) -> str:
    """Shorten a text so that it is at most so wide."""
    if type_face.getlength(text) <= width_px:
        return text
    while text and type_face.getlength(f"{text}…") > width_px:
        text = text[:-1]
    return f"{text.rstrip()}…"


def tag(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, color: Color, limit_px: int) -> None:
    """Write a small label on a dark plate, with a bar of the event's colour; nothing where it does not fit."""
    x, y = at
    type_face = font(12)
    if type_face.getlength(text) + 15 > limit_px:
        return
    width = round(type_face.getlength(text))
    draw.rectangle((x, y, x + width + 15, y + 19), fill=(20, 22, 26))
    draw.rectangle((x, y, x + 3, y + 19), fill=color)
    draw.text((x + 9, y + 10), text, font=type_face, fill="white", anchor="lm")
