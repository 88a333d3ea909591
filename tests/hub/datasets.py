"""Finished datasets of random pixels, made with the real writers: any number of samples, in no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from changen_cli.core.files import sha256
from changen_cli.core.manifest import new_manifest
from changen_cli.core.recipe import build_recipe
from changen_cli.core.types import ChangeEvent, ClassSchema, Scene, TimeSeries
from changen_cli.workflows.describe import describe
from changen_cli.writers import open_writer
from changen_cli.writers.base import Layout
from changen_cli.writers.card import write_card
from changen_cli.writers.classes import write_classes

SCHEMA = ClassSchema(("background", "building"))


def make_sample(number: int, dates: int = 2, side: int = 64, *, geo: bool = False, seed: int = 0) -> TimeSeries:
    """A series of noise in which one building appears at every step; two samples show one place."""
    from rasterio.crs import CRS

    rng = np.random.default_rng((seed, number))
    images = rng.integers(0, 256, (dates, side, side, 3), dtype=np.uint8)
    masks = np.zeros((dates, side, side), np.uint8)
    instances = np.zeros(masks.shape, np.int32)
    events = []
    for t in range(1, dates):
        box = (8 * t, 4, 8 * t + 6, 14 + number % 9)
        masks[t:, box[0] : box[2], box[1] : box[3]] = 1
        instances[t:, box[0] : box[2], box[1] : box[3]] = t
        area = (box[2] - box[0]) * (box[3] - box[1])
        polygon = (
            f"POLYGON (({box[1]} {box[0]}, {box[3]} {box[0]}, {box[3]} {box[2]}, {box[1]} {box[2]}, {box[1]} {box[0]}))"
        )
        events.append(
            ChangeEvent(f"new{t}-0", t, t - 1, "create", 0, 1, box, area, polygon, from_areas_px={0: area})
        )  # fmt: skip
    scene = Scene(
        f"scene{number:04d}", f"place{number // 2}", images[0], masks[0], source_path=f"in/{number}.png",
        gsd_m=0.5 if geo else None, crs=CRS.from_epsg(32640).to_wkt() if geo else None,
        transform=(0.5, 0.0, 330000.0 + number, 0.0, -0.5, 2780000.0) if geo else None,
    )  # fmt: skip
    return TimeSeries(
        id=f"{scene.id}_v00", scene=scene, variant=0, seed=7, images=images, masks=masks, instances=instances,
        objects={t: f"new{t}-0" for t in range(1, dates)}, events=events,
    )  # fmt: skip


def write_dataset(
    out: Path,
    count: int = 6,
    layout: Layout = "folder",
    *,
    licence: str = "CC BY 4.0",
    make: Callable[..., TimeSeries] = make_sample,
    **settings: Any,
) -> Path:
    """Write a dataset of the samples ``make`` gives by number; see :func:`make_sample` for the settings."""
    writer = open_writer(layout, out, SCHEMA)
    for number in range(count):
        writer.write(make(number, **settings))
    write_classes(out, SCHEMA)
    writer.close()
    (out / "preview.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    steps = settings.get("dates", 2) - 1
    source = {
        "name": "noise",
        "license": [licence] if licence else [],
        "event_kinds": ["create"],
        "classes": list(SCHEMA.names),
    }
    manifest = new_manifest(
        build_recipe(
            {
                "source": {"input": str(out.parent / "in")},
                "output": {"path": str(out)},
                "events": {"steps": steps},
                "seed": 7,
            }
        ),
        source=source,
    )
    manifest.status, manifest.checksums = "complete", sha256(out / "checksums.sha256")
    manifest.counts, manifest.statistics = {"samples": count}, {"events": {"create": count * steps}}
    manifest.save(out)
    write_card(out, describe(out))
    return out
