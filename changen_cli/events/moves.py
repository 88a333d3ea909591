"""Edges that move: a class advances over its neighbours by some metres, or gives way along its rim."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box, UInt8Array
from changen_cli.events.parcels import OpenGround
from changen_cli.events.regions import FloatArray, crop, pad_box, tighten
from changen_cli.events.step import AIM, TOLERANCE, Step
from changen_cli.events.transitions import EdgeMove

_STRETCH_SHARE = (0.12, 0.5)  # of a step's target
_MAX_STRETCHES = 12  # of one edge in one step; edges that move by a pixel would need hundreds
_MAX_MISSES = 4
# Longest reach along the edge, in distances and in px at least; windows grow with its square.
_REACH, _REACH_PX = 12, 96
_LENS = math.pi / 2  # area of a stretch over its reach times its distance
_DIAGONAL = (1, 3)  # of five steps


def move_edge(step: Step, ground: OpenGround, move: EdgeMove, budget_px: float) -> FloatArray:
    """Let stretches of a class's edge move until a budget is spent or no edge is left.

    Args:
        step: The step.
        ground: What may still change; shrinks.
        move: Which edge, and how far.
        budget_px: Area to change.

    Returns:
        float64 ``[256]``, the budget shared out to the classes that give way, by the length of edge they have.
    """
    rng = step.rng
    until_px = step.used_px + budget_px
    other_side = _other_side(step, move)
    lengths = ground.edge_px(move.over, other_side)
    if not lengths.any():
        return lengths
    least, most = _distances_px(step, move)
    least_px = max(step.rules.min_area_px, _LENS * least**2)
    misses = stretches = 0
    while misses < _MAX_MISSES and stretches < _MAX_STRETCHES:
        left_px = until_px - step.used_px
        if left_px < max(AIM * budget_px, least_px):
            break
        # No stretch is deeper than half as long.
        distance_px = int(rng.integers(least, max(least, min(most, int(math.sqrt(left_px / _LENS)))) + 1))
        share = math.exp(rng.uniform(*np.log(_STRETCH_SHARE)))
        wanted_px = max(share * step.target_px, _LENS * distance_px**2, least_px)
        wanted_px = left_px if left_px - wanted_px < least_px else wanted_px
        seed = ground.edge_seed(move.over, other_side, rng)
        if seed is None:
            break
        before_px = step.used_px
        for box, footprint in _stretch(step, ground, move, seed, distance_px, wanted_px):
            if footprint.sum() <= step.left_px + TOLERANCE * step.target_px:
                ground.take(box, footprint)
                step.change("transition", edit_name(step), 0, box, footprint, move.to)
        stretches += 1
        misses = misses + 1 if step.used_px == before_px else 0
    return lengths * (budget_px / float(lengths.sum()))


def edit_name(step: Step) -> str:
    """The object id of the next transition."""
    return f"edit{step.state.time_index:02d}-{len(step.events):03d}"


def _distances_px(step: Step, move: EdgeMove) -> tuple[int, int]:
    """The range of distances in pixels."""
    pixel_m = step.pixel_m()
    least, most = (max(1, round(metres / pixel_m)) for metres in move.distance_m)
    return least, most


def _other_side(step: Step, move: EdgeMove) -> tuple[int, ...]:
    """The classes from which ground is moved over."""
    if move.advances:
        return (move.edge,)
    schema = step.rules.schema
    return tuple(index for index in range(len(schema.names)) if index not in (move.edge, *schema.unknown_ids))


def _stretch(
    step: Step, ground: OpenGround, move: EdgeMove, seed: tuple[int, int], distance_px: int, wanted_px: float
) -> Iterator[tuple[Box, BoolArray]]:
    """The ground one stretch of edge moves over, cut into connected parts of one class each.

    The stretch is as wide as the distance at the seed and tapers off along the edge, where the whole band around a
    region is not about what is wanted anyway.
    """
    reach_px = min(wanted_px / (_LENS * distance_px) + 2, max(_REACH_PX, _REACH * distance_px))
    box = pad_box((*seed, seed[0] + 1, seed[1] + 1), math.ceil(max(reach_px, distance_px)) + 2, ground.values.shape)
    open_ = _table(move.over).take(ground.values[crop(box)])
    origin = _table(_other_side(step, move)).take(step.state.mask[crop(box)])
    steps = _steps_from(origin, open_, distance_px)
    band = _piece_at(steps > 0, (seed[0] - box[0], seed[1] - box[1]))
    whole = band.sum() <= wanted_px and not ground.goes_on(band, box)
    band, tight = tighten(band, box)
    steps = steps[tight[0] - box[0] : tight[2] - box[0], tight[1] - box[1] : tight[3] - box[1]]
    if not whole:
        at = (seed[0] - tight[0], seed[1] - tight[1])
        rows, cols = np.nonzero(band)
        deep = steps[rows, cols] - 1.0
        along = np.sqrt(np.maximum((rows - at[0]) ** 2 + (cols - at[1]) ** 2 - deep**2, 0))
        needed = along / np.sqrt(1 - (deep / distance_px) ** 2)
        count = min(round(wanted_px), needed.size)
        band[rows, cols] = needed <= min(np.partition(needed, count - 1)[count - 1], reach_px)
        band = _piece_at(band, at)
    return _parts(band, tight, ground.values[crop(tight)], steps == 1, step.rules.min_area_px)


def _table(classes: Collection[int]) -> BoolArray:
    """Which mask values are of some classes, bool ``[256]``."""
    table = np.zeros(256, dtype=bool)
    table[list(classes)] = True
    return table


def _steps_from(origin: BoolArray, open_: BoolArray, most: int) -> npt.NDArray[np.uint16]:
    """Steps it takes to get somewhere through open pixels.

    Every pixel next to one that was reached is reached next, by turns along edges and along diagonals too: balls are
    octagons, within 8 % of circles, at a quarter of the cost of an exact distance transform that knew no obstacles.

    Args:
        origin: bool ``[h, w]``, where to start.
        open_: bool ``[h, w]``, the way.
        most: No more steps are made.

    Returns:
        uint16 ``[h, w]``; 0 at the origin and where ``most`` steps do not lead.
    """
    reached, steps = origin, np.zeros(origin.shape, dtype=np.uint16)
    for number in range(most):
        steps += ~reached
        rows = reached.copy()
        rows[1:] |= reached[:-1]
        rows[:-1] |= reached[1:]
        grown, sides = (rows.copy(), rows) if number % 5 in _DIAGONAL else (rows, reached)
        grown[:, 1:] |= sides[:, :-1]
        grown[:, :-1] |= sides[:, 1:]
        reached = reached | (grown & open_)
    steps[~reached] = 0
    return steps


def _piece_at(area: BoolArray, at: tuple[int, int]) -> BoolArray:
    """The connected piece of an area that holds one of its pixels."""
    labels, count = ndimage.label(area)
    return np.asarray(labels == labels[at]) if count > 1 else area


def _parts(
    band: BoolArray, box: Box, values: UInt8Array, rim: BoolArray, least_px: int
) -> Iterator[tuple[Box, BoolArray]]:
    """Connected parts of one class of a band, without those that are too small or, for lack of these, hang on nothing.

    Args:
        band: bool ``[h, w]``.
        box: Where it lies.
        values: uint8 ``[h, w]``, the classes.
        rim: bool ``[h, w]``, pixels right beside the edge that moves.
        least_px: No part is smaller.
    """
    values = np.where(band, values, 255)
    counts = np.bincount(values.ravel(), minlength=256)[:255]
    parts: list[BoolArray] = []
    for value in np.flatnonzero(counts >= least_px):
        labels, count = ndimage.label(values == value)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        parts += [labels == number for number in range(1, count + 1) if sizes[number] >= least_px]
    left_out = int(counts.sum()) - sum(int(part.sum()) for part in parts)
    attached = rim
    if left_out and parts:
        labels, count = ndimage.label(np.logical_or.reduce(parts))
        held = np.zeros(count + 1, dtype=bool)
        held[labels[rim]] = True
        attached = held[labels]
    for part in parts:
        if not left_out or (part & attached).any():
            footprint, tight = tighten(part, box)
            yield tight, footprint
