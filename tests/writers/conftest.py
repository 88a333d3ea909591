"""Small real samples for the writers' tests: random pixels, one created and one removed object per series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from changen_cli.core.types import (
    ChangeEvent,
    ClassSchema,
    Exemplar,
    Placement,
    Scene,
    StepReport,
    TimeSeries,
)

SCHEMA = ClassSchema(("background", "building", "road"))
WEB_MERCATOR_TRANSFORM = (0.5, 0.0, 9_519_926.0, 0.0, -0.5, 3_202_940.0)


@pytest.fixture
def schema() -> ClassSchema:
    return SCHEMA


def _event(change: np.ndarray, index: int, create: bool, placement: Placement | None) -> ChangeEvent:
    rows, cols = np.nonzero(change)
    box = (int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1)
    r0, c0, r1, c1 = box
    return ChangeEvent(
        object_id=f"obj-{index}", instance=index + 1, time_index=index, kind="create" if create else "remove",
        from_class=0 if create else 1, to_class=1 if create else 0, bbox=box, area_px=int(change.sum()),
        polygon=f"POLYGON (({c0} {r0}, {c1} {r0}, {c1} {r1}, {c0} {r1}, {c0} {r0}))",
        from_areas_px={0 if create else 1: int(change.sum())}, placement=placement,
    )  # fmt: skip


@pytest.fixture
def make() -> Callable[..., TimeSeries]:
    """Return ``make(number, dates=2, geo=False, shape=(64, 96), split="train", info=None)``."""

    def build(
        number: int = 0,
        dates: int = 2,
        geo: bool = False,
        shape: tuple[int, int] = (64, 96),
        split: str = "train",
        info: dict[str, object] | None = None,
    ) -> TimeSeries:
        from rasterio.crs import CRS

        rng = np.random.default_rng(number)
        images = rng.integers(0, 256, (dates, *shape, 3), dtype=np.uint8)
        masks = np.zeros((dates, *shape), np.uint8)
        masks[:, 40:50, 5:25] = 2
        masks[:, :4, :4] = 255
        exemplar = Exemplar(
            "scene-x", "b7", (1, 2, 13, 14), np.zeros((12, 12, 3), np.uint8), np.ones((12, 12), bool),
            np.zeros((12, 12), bool), 0.0, 0.5,
        )  # fmt: skip
        placement = Placement(exemplar, np.eye(2, 3), np.pi / 2, 1.25, True)
        masks[:, 52:60, 40:60] = 1
        instances = np.zeros(masks.shape, np.int32)
        instances[:, 52:60, 40:60] = 7
        objects = {7: "old"} | {t: f"obj-{t - 1}" for t in range(1, dates, 2)}
        events = []
        for t in range(1, dates):
            masks[t] = masks[t - 1]
            create = t % 2 == 1
            instances[t, 10:20, 30 : 40 + number] = t if create else 0
            masks[t, 10:20, 30 : 40 + number] = 1 if create else 0
            events.append(_event(masks[t] != masks[t - 1], t - 1, create, placement if create else None))
        scene = Scene(
            id=f"scene{number}", group=f"place{number}", image=images[0], mask=masks[0], source_path=f"in/{number}.png",
            gsd_m=0.5 if geo else None, crs=CRS.from_epsg(3857).to_wkt() if geo else None,
            transform=WEB_MERCATOR_TRANSFORM if geo else None,
        )  # fmt: skip
        reports = [StepReport(t, 0.05, 0.04, False, "short") for t in range(dates - 1)]
        return TimeSeries(
            id=f"scene{number}_v0", scene=scene, variant=0, seed=7, images=images, masks=masks, instances=instances,
            objects=objects, events=events,
            reports=reports, split=split, info={"mean_shift": 0.5} if info is None else info,
        )  # fmt: skip

    return build
