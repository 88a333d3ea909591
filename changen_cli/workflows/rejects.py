"""``OUT/rejected/``: small pictures of attempts that the quality gate rejected, to be looked at.

The first ones only: who has hundreds of them needs no more to see what is wrong. They are no part of the dataset:
checksums and tables do not name them, and they may be deleted.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from changen_cli.core.files import atomic_path
from changen_cli.core.types import ChangeEvent, UInt8Array
from changen_cli.workflows.plans import Plan

if TYPE_CHECKING:
    from changen_cli.workflows.gate import Verdict

FOLDER = "rejected"
MAX_PICTURES = 50
_SIDE_PX = 256
_MARGIN_PX = 24
_QUALITY = 85


@dataclass(frozen=True, eq=False)
class Reject:
    """An attempt that was rejected.

    Attributes:
        attempt: Which one, from 0.
        reason: Why.
        picture: A JPEG of it; empty where nothing was drawn.
    """

    attempt: int
    reason: str
    picture: bytes = b""


def reject(plan: Plan, reason: str, images: UInt8Array | None, verdict: Verdict | None) -> Reject:
    """Note a rejected attempt, with a picture where there are images and events that failed."""
    failed = verdict.failed if verdict else ()
    return Reject(plan.attempt, reason, _picture(images, failed) if images is not None and failed else b"")


def keep_pictures(out: Path, sample_id: str, rejected: Sequence[Reject]) -> None:
    """Write the pictures of a sample's attempts, ``<sample>_a0_seam.jpg``, unless there are many already."""
    folder = out / FOLDER
    for attempt in rejected:
        path = folder / f"{sample_id}_a{attempt.attempt}_{attempt.reason}.jpg"
        if not attempt.picture or (folder.is_dir() and len(os.listdir(folder)) >= MAX_PICTURES and not path.is_file()):
            continue
        with atomic_path(path, durable=False) as partial:
            partial.write_bytes(attempt.picture)


def _picture(images: UInt8Array, failed: Sequence[ChangeEvent]) -> bytes:
    """Before and after of the step of the largest event that failed: the tile with all of them, and that one near."""
    from PIL import Image

    from changen_cli.exports.polygons import fill_polygon
    from changen_cli.writers.drawing import REMOVED, fit, outline

    largest = max(failed, key=lambda event: event.area_px)
    before, after = images[largest.time_index : largest.time_index + 2]
    outlined = after.copy()
    for event in failed:
        if event.time_index == largest.time_index:
            area = np.zeros(after.shape[:2], dtype=np.bool_)
            shape, (row0, col0, row1, col1) = fill_polygon(event.polygon)
            area[row0:row1, col0:col1] = shape
            outline(outlined, area, REMOVED, tint=0)
    height, width = after.shape[:2]
    row, col = ((low + high) // 2 for low, high in zip(largest.bbox[:2], largest.bbox[2:], strict=True))
    side = max(largest.bbox[2] - largest.bbox[0], largest.bbox[3] - largest.bbox[1]) + 2 * _MARGIN_PX
    side = min(side, height, width)
    top, left = min(max(0, row - side // 2), height - side), min(max(0, col - side // 2), width - side)
    near = slice(top, top + side), slice(left, left + side)
    scale = _SIDE_PX / max(height, width)
    whole = max(1, round(width * scale)), max(1, round(height * scale))
    panels = [fit(image, whole) for image in (before, outlined)]
    panels += [fit(image[near], (whole[1], whole[1])) for image in (before, after)]
    target = io.BytesIO()
    Image.fromarray(np.concatenate(panels, axis=1)).save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()
