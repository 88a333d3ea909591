"""Small datasets of every kind, made by the real command's workflow once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import picture, write_pairs, write_xbd
from PIL import Image

from changen_cli.core.recipe import build_recipe
from changen_cli.workflows.generate import generate
from changen_cli.workflows.simulate import simulate_dataset

PAVING = {"rates": {"background": {"road": 0.1, "building": 0.1}}}


def write_georeferenced(root: Path, count: int = 2, size: int = 128) -> Path:
    """GeoTIFF images beside masks of background and building, half a metre a pixel, in UTM 40 N."""
    import rasterio
    from rasterio.transform import from_origin

    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for scene in range(count):
        image, numbers = picture(300 + scene, size)
        where = {"crs": "EPSG:32640", "transform": from_origin(330000 + 200 * scene, 2780000, 0.5, 0.5)}
        for folder, bands in (("images", np.moveaxis(image, 2, 0)), ("masks", (numbers > 0).astype(np.uint8)[None])):
            with rasterio.open(
                root / folder / f"g{scene}.tif", "w", driver="GTiff", width=size, height=size, count=len(bands),
                dtype="uint8", **where,
            ) as target:  # fmt: skip
                target.write(bands)
    return root


def write_landcover(root: Path) -> Path:
    """As :func:`write_pairs`, the road wide enough (400 px) for more of it to be drawn from its pixels."""
    write_pairs(root)
    for path in (root / "masks").iterdir():
        mask = np.array(Image.open(path))
        mask[:4] = 2
        Image.fromarray(mask).save(path)
    return root


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return ``get(name)``: the folder of a dataset, made at the first call.

    ``building`` (xBD scenes, 3 dates, with uids), ``pairs`` (2 dates), ``landcover`` (3 classes, with transitions),
    ``georeferenced`` (GeoTIFF, calendar dates), ``georeferenced-parquet``, ``parquet`` (as ``building``), ``masks`` (no
    images), ``damage``.
    """
    root = tmp_path_factory.mktemp("made")
    remove = {"kinds": ["create", "remove"], "change_area": "2-6%"}

    def build(name: str) -> Path:
        source, events, steps, output, run = write_xbd, remove, 2, {}, generate
        if name in ("pairs", "landcover", "masks"):
            source, steps = write_pairs, 1 if name == "pairs" else 2
        if name == "landcover":
            source = write_landcover
            events = {"kinds": ["create", "remove", "transition"], "transitions": PAVING}
        if name.startswith("georeferenced"):
            source, events = write_georeferenced, remove | {"dates": ["2018-01", "2020-06", "2023-01"]}
        if name == "damage":
            events = {"kinds": ["damage"], "disaster": "flood"}
        if name.endswith("parquet"):
            output = {"format": "parquet"}
        if name == "masks":
            run = simulate_dataset
        folder = source(root / f"{name}-source")
        classes = {"classes": ("background", "building", "road")} if source in (write_pairs, write_landcover) else {}
        values: dict[str, Any] = {
            "source": {"input": str(folder)} | classes,
            "events": events if "dates" in events else events | {"steps": steps},
            "synthesis": {"strength": 0, "nuisance": {"lean": 0.3} if name == "leaning" else "mild"},
            "output": {"path": str(root / name), **output},
            "seed": 5,
        }
        run(build_recipe(values))
        return root / name

    known: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in known:
            known[name] = build(name)
        return known[name]

    return get
