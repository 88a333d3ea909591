"""The exemplars a created object is made from: real, whole buildings cut out with their margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box, ClassSchema, Exemplar, Int32Array, Scene
from changen_cli.events.regions import FloatArray, ObjectTable, crop, measure_objects, oriented_extent, pad_box
from changen_cli.events.shadows import shadow_direction

# A building fills most of its minimum-area rectangle (an L-shape about 0.6); fused blocks and slivers do not.
_MIN_FILL = 0.6
_MIN_SHORT_PX = 8.0
_MAX_ASPECT = 5.0
# At most this share of the instance may be of another or unknown class: the rest would be seen through a tree.
_MAX_HIDDEN = 0.1
# Larger ones are fused quarters more often than buildings, and never fit anywhere.
_MAX_TILE_SHARE = 0.1


_MARGIN_PX = 16


def scene_instances(scene: Scene, building_ids: Sequence[int]) -> Int32Array:
    """The scene's object numbers; connected regions of each building class when the source has none.

    The scene must have a mask.
    """
    if scene.instances is not None:
        return scene.instances
    assert scene.mask is not None
    numbers, count = np.zeros(scene.mask.shape, dtype=np.int32), 0
    for index in building_ids:
        labels, found = ndimage.label(scene.mask == index)
        labels[labels > 0] += count
        numbers |= labels  # they share no pixel
        count += found
    return numbers


def collect_exemplars(
    scene: Scene,
    schema: ClassSchema,
    *,
    margin_px: int = _MARGIN_PX,
    min_area_px: int = 64,
    max_per_scene: int = 64,
) -> list[Exemplar]:
    """Cut the best whole buildings of a scene out, with their margin.

    Taken are objects that do not touch the tile's border, are of one piece, compact and hardly hidden; the most
    rectangular and least crowded come first.

    Args:
        scene: A scene; without a mask or without buildings it yields nothing.
        schema: Its classes.
        margin_px: Surroundings kept on every side (shadow, ground), cut at the tile.
        min_area_px: Smallest object taken.
        max_per_scene: Most objects taken.

    Returns:
        Exemplars, best first; the same list for the same scene, always.
    """
    building = schema.building_id
    if scene.mask is None or building is None:
        return []
    instances = scene_instances(scene, schema.object_ids)
    height, width = scene.mask.shape
    objects = measure_objects(scene.mask, instances, (building,), scene.uids)
    shadow = shadow_direction(scene.image, np.asarray(instances > 0))
    ranked: list[tuple[float, int, Exemplar]] = []
    for row, number in enumerate(objects.numbers.tolist()):
        box = objects.box(row)
        area = int(objects.areas_px[row])
        at_border = box[0] == 0 or box[1] == 0 or box[2] == height or box[3] == width
        if at_border or not min_area_px <= area <= _MAX_TILE_SHARE * scene.mask.size:
            continue
        wide = pad_box(box, margin_px, scene.mask.shape)
        numbers, classes = instances[crop(wide)], scene.mask[crop(wide)]
        whole = numbers == number
        footprint = whole & (classes == building)
        angle, long_px, short_px = oriented_extent(footprint)
        fill = area / (long_px * short_px)
        compact = fill >= _MIN_FILL and short_px >= _MIN_SHORT_PX and long_px <= _MAX_ASPECT * short_px
        if not compact or area < (1 - _MAX_HIDDEN) * whole.sum():
            continue
        if ndimage.label(footprint)[1] != 1:
            continue
        exemplar = replace(_cut(scene, instances, schema, objects.ids[row], wide, footprint, angle), shadow_rad=shadow)
        ranked.append((-fill * (1.0 - float(exemplar.others.mean())), number, exemplar))
    ranked.sort(key=lambda entry: entry[:2])
    return [exemplar for _, _, exemplar in ranked[:max_per_scene]]


def _cut(
    scene: Scene,
    instances: Int32Array,
    schema: ClassSchema,
    object_id: str,
    box: Box,
    footprint: BoolArray,
    orientation_rad: float,
) -> Exemplar:
    """Cut one object out at ``box``, which ``footprint`` describes."""
    assert scene.mask is not None
    taken = (instances[crop(box)] > 0) | np.isin(scene.mask[crop(box)], (*schema.building_ids, schema.ignore_index))
    return Exemplar(
        scene_id=scene.id,
        object_id=object_id,
        box=box,
        image=scene.image[crop(box)].copy(),
        footprint=footprint,
        others=taken & ~footprint,
        orientation_rad=orientation_rad,
        gsd_m=scene.gsd_m,
    )


def as_it_was(scene: Scene, schema: ClassSchema, objects: ObjectTable, row: int) -> Exemplar | None:
    """Cut an object out as date 0 shows it.

    Args:
        scene: Date 0 with object numbers.
        schema: Its classes.
        objects: The objects present at some date.
        row: Which of them.

    Returns:
        The object with its margin; None where date 0 does not show it undamaged.
    """
    assert scene.mask is not None
    assert scene.instances is not None
    box = pad_box(objects.box(row), _MARGIN_PX, scene.mask.shape)
    classes = scene.mask[crop(box)]
    footprint = (scene.instances[crop(box)] == objects.numbers[row]) & np.isin(classes, schema.object_ids)
    if (classes[footprint] != schema.building_id).any():
        return None
    angle = float(objects.orientations_rad[row])
    return _cut(scene, scene.instances, schema, objects.ids[row], box, footprint, angle)


@dataclass(frozen=True, eq=False)
class Stock:
    """An exemplar library as seen from one scene; measured once per series.

    Attributes:
        exemplars: N exemplars.
        areas_px: float64 ``[N]``, footprint areas in pixels of the scene, at scale 1.
        zooms: float64 ``[N]``, exemplar GSD over scene GSD; 1 where either is unknown.
        own: bool ``[N]``, cut from this very scene.
    """

    exemplars: tuple[Exemplar, ...]
    areas_px: FloatArray
    zooms: FloatArray
    own: BoolArray


def stock_library(library: Sequence[Exemplar], scene: Scene) -> Stock:
    """Measure a library for one scene; exemplars without a footprint are left out."""
    usable = tuple(exemplar for exemplar in library if exemplar.footprint.any())
    zooms = np.asarray([_zoom(exemplar.gsd_m, scene.gsd_m) for exemplar in usable], dtype=np.float64)
    areas = np.asarray([exemplar.area_px for exemplar in usable], dtype=np.float64) * zooms**2
    own = np.asarray([exemplar.scene_id == scene.id for exemplar in usable], dtype=bool)
    return Stock(usable, areas, zooms, own)


def _zoom(exemplar_gsd_m: float | None, scene_gsd_m: float | None) -> float:
    return exemplar_gsd_m / scene_gsd_m if exemplar_gsd_m and scene_gsd_m else 1.0
