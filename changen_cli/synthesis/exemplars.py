"""The exemplar start: a plausible first image of the changed area, made from real pixels.

Created objects are real ones, turned to their new site with the shadow they cast. Removed objects give way to patches
of free ground of the same image, and regions that change class to patches of their new class. The denoiser then only
has to harmonise (SDEdit, Meng et al. 2022), not to invent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import (
    BoolArray,
    Box,
    ChangeEvent,
    ClassSchema,
    Exemplar,
    Int32Array,
    Placement,
    Texture,
    UInt8Array,
)
from changen_cli.synthesis.ground import GroundFiller, Material, make_material

FloatArray = npt.NDArray[np.float32]

MARGIN_PX = 4
"""Pixels around a changed object that are redrawn with it: eaves, walls and the annotator's slack."""
SHADOW_PX = 14
"""How far from an object its shadow is looked for."""
_SHADOW_RATIO = 0.72
_ENOUGH = 0.5
"""Of a region's area, what its tile must show of the new class; less would be repeated until it shows."""


def luminance(image: npt.NDArray[np.generic]) -> FloatArray:
    """Rec. 601 luma of ``[..., 3]``."""
    return (image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)).astype(np.float32)


def grow(box: Box, margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Slices of ``box`` with a margin, clipped to ``shape``."""
    rows = slice(max(box[0] - margin, 0), min(box[2] + margin, shape[0]))
    return rows, slice(max(box[1] - margin, 0), min(box[3] + margin, shape[1]))


def attached_shadow(image: npt.NDArray[np.generic], footprint: BoolArray, usable: BoolArray) -> BoolArray:
    """Find the dark pixels next to an object: its shadow, as far as this picture shows one.

    Args:
        image: ``[h, w, 3]``, 0..255.
        footprint: bool ``[h, w]``, the object.
        usable: bool ``[h, w]``, ground that may hold a shadow.

    Returns:
        bool ``[h, w]`` outside the footprint, connected to it.
    """
    luma = luminance(image)
    ground = usable & ~footprint
    if ground.sum() < 16:
        return np.zeros_like(footprint)
    near = ndimage.binary_dilation(footprint, iterations=SHADOW_PX) & ground
    dark = near & (ndimage.gaussian_filter(luma, 1.0) < _SHADOW_RATIO * np.median(luma[ground]))
    rim = ndimage.binary_dilation(footprint, iterations=2)
    return np.asarray(ndimage.binary_propagation(dark & rim, mask=dark))


class ExemplarStart:
    """Draws starts for many dates; knows how light differs between the scenes its exemplars come from.

    Args:
        library: Exemplars by the scenes they come from; used for colour statistics.
        textures: Pieces of scenes, for classes the tile itself shows too little of.
        draws_damage: Whether the denoiser draws damage, on what stood there; else a destroyed building gives way to
            ground, being no longer present.
    """

    def __init__(
        self, library: Sequence[Exemplar] = (), textures: Sequence[Texture] = (), *, draws_damage: bool = False
    ) -> None:
        self._draws_damage = draws_damage
        self._textures: dict[int, list[Texture]] = {}
        for texture in textures:
            self._textures.setdefault(texture.class_id, []).append(texture)
        pixels: dict[str, list[FloatArray]] = {}
        for exemplar in library:
            known = exemplar.image[~exemplar.others].astype(np.float32)
            pixels.setdefault(exemplar.scene_id, []).append(known)
        self._light = {
            scene: (values.mean(axis=0), values.std(axis=0) + 8)
            for scene, values in ((scene, np.concatenate(parts)) for scene, parts in pixels.items())
        }

    def _matched(self, source: Exemplar | Texture, target: FloatArray, scene_id: str) -> FloatArray:
        """Bring pixels from another scene to this one's light: half way in colour, bounded in contrast."""
        image = source.image.astype(np.float32)
        if source.scene_id == scene_id or source.scene_id not in self._light:
            return image
        mean, std = self._light[source.scene_id]
        if scene_id in self._light:
            wanted_mean, wanted_std = self._light[scene_id]
        else:  # a thinned tile tells its light as well as the whole one
            pixels = target[::8, ::8].reshape(-1, 3)
            wanted_mean, wanted_std = pixels.mean(axis=0), pixels.std(axis=0) + 8
        gain = np.clip((wanted_std + std) / (2 * std), 0.75, 1.3)
        return ((image - mean) * gain + (mean + wanted_mean) / 2).astype(np.float32)

    def create(
        self, canvas: FloatArray, event: ChangeEvent, placement: Placement, scene_id: str
    ) -> tuple[tuple[slice, slice], BoolArray]:
        """Lay the exemplar's pixels onto ``canvas`` ``[H, W, 3]`` in place.

        Returns:
            The crop that was looked at, and bool ``[h, w]`` of the pixels touched in it.
        """
        exemplar = placement.exemplar
        where = grow(event.bbox, SHADOW_PX, canvas.shape)
        rows, cols = np.mgrid[where]
        points = placement.matrix @ np.stack([rows.ravel(), cols.ravel(), np.ones(rows.size)])
        points = points.reshape(2, *rows.shape)
        size = exemplar.footprint.shape
        inside = (points[0] > -0.5) & (points[0] < size[0] - 0.5) & (points[1] > -0.5) & (points[1] < size[1] - 0.5)
        source = self._matched(exemplar, canvas, scene_id)
        patch = np.stack(
            [ndimage.map_coordinates(source[..., band], points, order=1, mode="nearest") for band in range(3)], axis=-1
        )
        nearest = tuple(np.clip(np.rint(p).astype(int), 0, s - 1) for p, s in zip(points, size, strict=True))
        footprint = exemplar.footprint[nearest] & inside
        usable = inside & ~exemplar.others[nearest]

        before = canvas[where].copy()
        # A shadow darkens whatever ground lies there now: transfer the ratio, not the other site's ground.
        shadow = attached_shadow(patch, footprint, usable)
        if shadow.any():
            ground = usable & ~footprint & ~shadow
            lit = np.median(luminance(patch)[ground]) if ground.any() else 128.0
            ratio = np.where(shadow, np.clip(luminance(patch) / max(float(lit), 1.0), 0.3, 1.0), 1.0)
            canvas[where] *= ndimage.gaussian_filter(ratio, 0.8).astype(np.float32)[..., None]
        alpha = ndimage.gaussian_filter(ndimage.binary_dilation(footprint).astype(np.float32), 0.8)
        alpha = np.where(usable, alpha, 0)[..., None]
        canvas[where] = canvas[where] * (1 - alpha) + patch * alpha
        return where, np.asarray((canvas[where] != before).any(axis=-1))

    def _material(self, filler: GroundFiller, event: ChangeEvent, scene_id: str, rng: np.random.Generator) -> Material:
        """Pixels of an event's new class: the tile's own where it shows enough of it, else another scene's."""
        own = filler.of_class(event.to_class)
        textures = self._textures.get(event.to_class)
        if not textures or len(own.anchors) >= _ENOUGH * event.area_px:
            return own
        texture = textures[int(rng.integers(len(textures)))]
        return make_material(self._matched(texture, filler.canvas, scene_id), texture.usable)

    def start(
        self,
        image: UInt8Array,
        masks: UInt8Array,
        instances: Int32Array,
        events: Sequence[ChangeEvent],
        schema: ClassSchema,
        scene_id: str,
        rng: np.random.Generator,
    ) -> tuple[FloatArray, BoolArray]:
        """Draw the start of the next date.

        Args:
            image: uint8 ``[H, W, 3]``, the date before.
            masks: uint8 ``[2, H, W]``, semantic masks of the date before and of the next one.
            instances: int32 ``[H, W]``, object numbers of the date *before*.
            events: The step's events.
            schema: Classes of the masks.
            scene_id: Scene of ``image``.
            rng: Source of all randomness.

        Returns:
            float32 ``[H, W, 3]`` in 0..255 and bool ``[H, W]``, the area that differs from ``image``.
        """
        canvas = image.astype(np.float32)
        touched = np.zeros(image.shape[:2], dtype=bool)
        gone = () if self._draws_damage else schema.damage_ids[-1:]
        buildings = np.isin(masks[1], [index for index in schema.building_ids if index not in gone])
        # What an object leaves is filled before what changes class: it may lie beside it, and be fitted to.
        filled = sorted((event for event in events if event.placement is None), key=lambda event: event.kind)
        filled = [event for event in filled if event.kind != "damage" or event.to_class in gone]
        if filled:
            holes = [
                removal_hole(image, instances, event, buildings)
                if event.from_class in schema.building_ids
                else transition_hole(masks, event)
                for event in filled
            ]
            for where, hole in holes:
                touched[where] |= hole
            filler = GroundFiller(canvas, masks[1], buildings, touched, schema.ground_ids)
            for event, (where, hole) in zip(filled, holes, strict=True):
                if event.kind in ("remove", "swap", "alter", "damage"):
                    below = filler.prevailing(where) if event.kind == "damage" else event.to_class
                    filler.fill(where, hole, filler.ground(below, int(hole.sum())), rng)
                else:
                    material = self._material(filler, event, scene_id, rng)
                    filler.fill(where, hole, material, rng, meets=event.to_class)
        for event in events:
            if event.placement is not None:
                where, changed = self.create(canvas, event, event.placement, scene_id)
                touched[where] |= changed
        return np.clip(canvas, 0, 255), touched


def transition_hole(masks: UInt8Array, event: ChangeEvent) -> tuple[tuple[slice, slice], BoolArray]:
    """The pixels in an event's box that changed as its own did; parts of a neighbour among them are filled alike.

    Returns:
        Where the crop lies, and bool ``[h, w]`` of the crop.
    """
    where = grow(event.bbox, 0, masks.shape[1:])
    return where, np.asarray((masks[0][where] == event.from_class) & (masks[1][where] == event.to_class))


def removal_hole(
    image: UInt8Array, instances: Int32Array, event: ChangeEvent, buildings: BoolArray
) -> tuple[tuple[slice, slice], BoolArray]:
    """The pixels of a removed object that must go: itself, a margin, and its shadow; other buildings stay.

    Returns:
        Where the crop lies, and bool ``[h, w]`` of the crop.
    """
    where = grow(event.bbox, SHADOW_PX + MARGIN_PX, image.shape)
    pixels = (instances[where] == event.instance) & ~buildings[where]
    margin = ndimage.binary_dilation(pixels, iterations=MARGIN_PX)
    shadow = attached_shadow(image[where], pixels, ~buildings[where])
    shadow = ndimage.binary_dilation(shadow, iterations=2)
    return where, pixels | ((margin | shadow) & ~buildings[where])
