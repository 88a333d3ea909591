"""Cutting scenes into tiles of one size, and enlarging those that are too small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from changen_cli.core.types import GeoTransform, Int32Array, Scene, Skip

WHOLE_PX = 1024
"""Without a tile size, scenes up to this side stay whole and larger ones are cut to it."""
MAX_UPSAMPLED_PX = 100_000_000
"""A strip a few pixels high would otherwise be enlarged into an image that fits no memory."""


def tile_scene(scene: Scene, res: int | None = None, *, upsample: bool = False) -> Iterator[Scene | Skip]:
    """Cut a scene into tiles, row by row.

    Tiles overlap only at the last row and column, where they are shifted back to end at the border. With ``res``
    every tile is ``res``×``res``; a scene smaller in either dimension is skipped, or enlarged by one factor for both
    dimensions (image bicubic, mask and instances nearest) until its shorter side is ``res``. Without ``res`` a side
    up to 1024 px stays whole and a longer one is cut to 1024, so a long strip gives tiles that are not square.

    Args:
        scene: The whole scene; its id and group are the stems of the tiles' ids.
        res: Tile side in pixels, at least 1, or None.
        upsample: Enlarge scenes smaller than ``res``.

    Yields:
        Tiles ``<id>_r<row0>_c<col0>`` (of the enlarged grid if there is one), or the scene itself under its own id
        when it needs no cut, or one skip. Objects are renumbered 1..N in each tile, and keep their uid.
    """
    height, width = scene.image.shape[:2]
    if res is not None and min(height, width) < res:
        if not upsample:
            reason = f"is {height}×{width}, smaller than --res {res}: pass --upsample or a smaller --res"
            yield Skip(scene.source_path, reason, failed=False)
            return
        factor = res / min(height, width)
        height, width = max(res, round(height * factor)), max(res, round(width * factor))
        if height * width > MAX_UPSAMPLED_PX:
            yield Skip(
                scene.source_path, f"would be enlarged to {height}×{width} px: too narrow for --res {res}", False
            )
            return
        scene = _resize(scene, height, width)
    tile_height, tile_width = (res, res) if res is not None else (min(height, WHOLE_PX), min(width, WHOLE_PX))
    if (height, width) == (tile_height, tile_width):
        yield scene
        return
    for row in _offsets(height, tile_height):
        for col in _offsets(width, tile_width):
            yield _cut(scene, row, col, tile_height, tile_width)


def compact_instances(instances: Int32Array, uids: tuple[str, ...] = ()) -> tuple[Int32Array, tuple[str, ...]]:
    """Renumber objects to 1..N without gaps, dropping those that have no pixel.

    Args:
        instances: int32 ``[H, W]``, 0 where no object.
        uids: Name of object n at ``n - 1``, or empty.

    Returns:
        A new map of the same shape, in the same order of objects, and the uids left.
    """
    top = int(instances.max(initial=0))
    seen = np.zeros(top + 1, dtype=bool)
    seen[instances.ravel()] = True
    seen[0] = False
    numbers = np.flatnonzero(seen)
    table = np.zeros(top + 1, dtype=np.int32)
    table[numbers] = np.arange(1, len(numbers) + 1, dtype=np.int32)
    return table[instances], tuple(uids[n - 1] for n in numbers) if uids else ()


def _offsets(length: int, tile: int) -> list[int]:
    starts = list(range(0, length - tile + 1, tile))
    if starts[-1] + tile < length:
        starts.append(length - tile)
    return starts


def _cut(scene: Scene, row: int, col: int, height: int, width: int) -> Scene:
    # Copies, not views: a view kept by a consumer would hold the whole scene in memory.
    window = (slice(row, row + height), slice(col, col + width))
    instances, uids = scene.instances, scene.uids
    if instances is not None:
        instances, uids = compact_instances(instances[window], uids)
    transform: GeoTransform | None = None
    if scene.transform is not None:
        a, b, c, d, e, f = scene.transform
        transform = (a, b, a * col + b * row + c, d, e, d * col + e * row + f)
    notes: dict[str, Any] = {**scene.notes, "tile": {"row0": row, "col0": col, "of": list(scene.image.shape[:2])}}
    return replace(
        scene,
        id=f"{scene.id}_r{row:05d}_c{col:05d}",
        image=scene.image[window].copy(),
        mask=None if scene.mask is None else scene.mask[window].copy(),
        instances=instances,
        uids=uids,
        transform=transform,
        notes=notes,
    )


def _resize(scene: Scene, height: int, width: int) -> Scene:
    from PIL import Image

    old_height, old_width = scene.image.shape[:2]
    rows, cols = _nearest(old_height, height), _nearest(old_width, width)

    def nearest(array: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        return None if array is None else array[rows[:, None], cols[None, :]]

    y_step, x_step = old_height / height, old_width / width
    transform: GeoTransform | None = None
    if scene.transform is not None:
        a, b, c, d, e, f = scene.transform
        transform = (a * x_step, b * y_step, c, d * x_step, e * y_step, f)
    note = {"from": [old_height, old_width], "to": [height, width], "image": "bicubic", "mask": "nearest"}
    return replace(
        scene,
        image=np.array(Image.fromarray(scene.image).resize((width, height), Image.Resampling.BICUBIC)),
        mask=nearest(scene.mask),
        instances=nearest(scene.instances),
        transform=transform,
        gsd_m=None if scene.gsd_m is None else scene.gsd_m * (x_step * y_step) ** 0.5,
        notes={**scene.notes, "upsampled": note},
    )


def _nearest(old: int, new: int) -> npt.NDArray[np.intp]:
    """Index of the old pixel under the centre of each new one."""
    return np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)
