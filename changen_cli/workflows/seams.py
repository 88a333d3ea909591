"""Is there a seam? The rims of what was drawn, and of real counterparts of the same shape.

A rim says little by itself: sand is smoother than scrub wherever one draws. So every rim is described relative to the
same outline laid on free ground of the same surroundings, real ones in their own scene just like drawn ones. What is
left is what stands there and how its rim was made, not where it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from changen_cli.core.types import BoolArray, ChangeEvent, ClassSchema, Int32Array, Scene, UInt8Array
from changen_cli.synthesis.measures import FAR_PX, RIM_PX, probe_auc, redrawn_area, rim_statistics
from changen_cli.workflows.measures import Kind, within

Array = npt.NDArray[np.float64]

# How far from its event a rim, with the ground its figures are relative to, may reach.
_REACH_PX = 40
_NO_OTHERS_PX = 2
_NEAREST = 0.1
_GROUNDS = 8
"""Places of free ground a rim is compared with: their mean is what it is relative to."""


@dataclass(frozen=True, eq=False)
class RimSet:
    """The rim of one drawn event and its counterparts, each relative to free ground of its own surroundings.

    Attributes:
        kind: What the event was.
        drawn: Of the drawn image.
        real: Of the counterpart in real pixels: for a creation the building it was made from, with the redrawn area
            laid around it; for a removal one more place of free ground.
        site: Of the pixels of a creation before the change. None for a removal, where a building stood.
        ground: Of one more place of free ground of the counterpart's surroundings: what ``site`` should look like.
    """

    kind: Kind
    drawn: Array
    real: Array
    site: Array | None
    ground: Array


@dataclass(frozen=True, eq=False)
class _Outline:
    """A redrawn area, and the pixels about it that tell about one event: nearest to it, the object itself left out."""

    shape: BoolArray
    mine: BoolArray


def rim_sets(
    scene: Scene,
    after: UInt8Array,
    masks: UInt8Array,
    instances: Int32Array,
    events: Sequence[ChangeEvent],
    schema: ClassSchema,
    scenes: Mapping[str, Scene],
    rng: np.random.Generator,
) -> list[RimSet]:
    """Describe the rim of every event, and real ones of the same shape.

    Only ground is looked at, on both sides: a roof has edges of its own, and they are no seams. Events of whose rim too
    little is left, or for which there is no free ground to compare with, are passed over.

    Args:
        scene: The scene before the change.
        after: uint8 ``[H, W, 3]``, the drawn date; unchanged pixels kept exactly.
        masks: uint8 ``[2, H, W]``, before and after.
        instances: int32 ``[2, H, W]``, before and after.
        events: The step's events.
        schema: Classes of the masks.
        scenes: Scenes by id, for the objects creations were made from.
        rng: Source of all randomness.

    Returns:
        One per event that has a counterpart.
    """
    area = redrawn_area(scene.image, after)
    owners = np.zeros(area.shape, dtype=np.int32)
    for number, event in enumerate(events, start=1):
        objects = instances[1] if event.kind == "create" else instances[0]
        owners[(objects == event.instance) & (masks[0] != masks[1])] = number
    if not owners.any() or not area.any():
        return []
    nearest = ndimage.distance_transform_edt(owners == 0, return_distances=False, return_indices=True)
    owners = owners[tuple(nearest)]
    free = np.isin(masks, schema.ground_ids)
    ground = ~within(~free[0], _NO_OTHERS_PX)
    found = []
    for number, event in enumerate(events, start=1):
        if event.kind not in ("create", "remove"):
            continue
        own = event.kind == "create"
        where = _around(event.bbox, area.shape)
        # Ground only: a roof beside one rim and not beside the other, or a brighter one, would be told apart.
        objects = ~free[1][where]
        if not own:  # before the change its own pixels were building too; those may be looked at
            objects = objects | (~free[0][where] & (instances[0][where] != event.instance))
        mine = owners[where] == number
        usable = mine & ~within(objects, _NO_OTHERS_PX)
        if own:
            mine = mine & ~within(instances[1][where] == event.instance, _NO_OTHERS_PX)
        outline = _Outline(area[where], mine)
        drawn = rim_statistics(after[where], outline.shape, usable)
        grounds = _on_ground(scene.image, ground, outline, _middle(event.bbox), rng)
        if drawn is None or len(grounds) < 2:
            continue
        usual = np.mean(grounds[1:], axis=0)
        if not own:
            found.append(RimSet("remove", drawn - usual, grounds[0] - usual, None, grounds[0] - usual))
            continue
        site = rim_statistics(scene.image[where], outline.shape, usable)
        real, there = _around_exemplar(event, (where[0].start, where[1].start), outline, schema, scenes, rng)
        if site is not None and real is not None and len(there) > 1:
            elsewhere = np.mean(there[1:], axis=0)
            found.append(RimSet("create", drawn - usual, real - elsewhere, site - usual, there[0] - elsewhere))
    return found


def _around(box: Sequence[int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A box with what its rim may reach, clipped to the image."""
    rows, cols = (
        slice(max(0, low - _REACH_PX), min(extent, high + _REACH_PX))
        for low, high, extent in zip(box[:2], box[2:], shape, strict=True)
    )
    return rows, cols


def _middle(box: Sequence[int]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _around_exemplar(
    event: ChangeEvent,
    corner: tuple[int, int],
    outline: _Outline,
    schema: ClassSchema,
    scenes: Mapping[str, Scene],
    rng: np.random.Generator,
) -> tuple[Array | None, list[Array]]:
    """Statistics of the redrawn area laid around the real object a creation was made from, and on ground near that."""
    placement = event.placement
    scene = scenes.get(placement.exemplar.scene_id) if placement else None
    if placement is None or scene is None or scene.mask is None:
        return None, []
    exemplar = placement.exemplar
    linear, offset = placement.matrix[:, :2], placement.matrix[:, 2]
    inverse = np.linalg.inv(linear)
    row0, col0 = exemplar.box[:2]
    where = _around(exemplar.box, scene.mask.shape)
    rows, cols = np.mgrid[where]
    local = np.stack([rows - row0, cols - col0]).reshape(2, -1) - offset[:, None]
    points = np.rint(inverse @ local).astype(int) - np.array(corner)[:, None]
    inside = ((points >= 0) & (points < np.array(outline.shape.shape)[:, None])).all(axis=0)
    points = np.where(inside, points, 0)
    laid = _Outline(
        (outline.shape[points[0], points[1]] & inside).reshape(rows.shape),
        (outline.mine[points[0], points[1]] & inside).reshape(rows.shape),
    )
    ground = ~within(~np.isin(scene.mask, schema.ground_ids), _NO_OTHERS_PX)
    real = rim_statistics(scene.image[where], laid.shape, laid.mine & ground[where])
    return real, [] if real is None else _on_ground(scene.image, ground, laid, _middle(exemplar.box), rng)


def _on_ground(
    image: UInt8Array,
    ground: BoolArray,
    outline: _Outline,
    middle: tuple[float, float],
    rng: np.random.Generator,
) -> list[Array]:
    """Statistics of the outline laid on ground, at some of the nearest places where most of its rim is on ground."""
    own = outline.shape & outline.mine
    if not own.any():
        return []
    tight = ndimage.find_objects(within(own, FAR_PX).astype(np.int32))[0]
    shape, mine = outline.shape[tight], outline.mine[tight]
    band = mine & within(own[tight], FAR_PX) & ~ndimage.binary_erosion(shape, iterations=int(RIM_PX), border_value=1)
    if any(extent > whole for extent, whole in zip(band.shape, ground.shape, strict=True)):
        return []
    weight = signal.fftconvolve(ground.astype(np.float32), band[::-1, ::-1].astype(np.float32), mode="valid")
    share = weight / max(1, band.sum())
    if share.max() < 0.5:
        return []
    rows, cols = np.nonzero(share >= min(0.97, share.max() - 0.02))
    # Nearby ground resembles what lies around the site; the far end of a scene may be a beach.
    distance = np.hypot(rows + band.shape[0] / 2 - middle[0], cols + band.shape[1] / 2 - middle[1])
    near = np.flatnonzero(distance <= np.quantile(distance, _NEAREST))
    found = []
    for choice in rng.permutation(near)[: _GROUNDS + 1]:
        place = tuple(slice(s[choice], s[choice] + e) for s, e in zip((rows, cols), band.shape, strict=True))
        found.append(rim_statistics(image[place], shape, band & ground[place]))
    return [statistics for statistics in found if statistics is not None]


def seam_probe(rims: Sequence[tuple[str, RimSet]], kind: Kind, one: str = "drawn", other: str = "real") -> float:
    """How well a linear probe tells one sort of rim from another; 0.5: not at all, 1: always.

    Args:
        rims: Places, which the probe is cross-validated by, and what was found there.
        kind: Which events.
        one: Attribute of :class:`RimSet`; ``"site"`` instead of ``"drawn"`` tells what drawing cannot help.
        other: What it is told from: ``"real"``; ``"site"``, the strictest test of a creation's rim; or ``"ground"``.

    Returns:
        Area under the ROC curve; NaN with fewer than ten events or two places.
    """
    chosen = [
        (place, rim)
        for place, rim in rims
        if rim.kind == kind and getattr(rim, one) is not None and getattr(rim, other) is not None
    ]
    if len(chosen) < 10:
        return float("nan")
    first, second = (np.stack([getattr(rim, side) for _, rim in chosen]) for side in (one, other))
    return probe_auc(first, second, [place for place, _ in chosen])
