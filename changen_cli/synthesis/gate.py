"""What a quality gate looks at: figures of every drawn event, on arrays, without a model of its own.

Every figure compares what was drawn with what is real beside it: with the unchanged ground around the event, and with
the unchanged pixels of the scene that have the class it is to show. Whichever is nearer counts, for a new roof may well
look unlike the sand it stands on, and new sand unlike the roofs around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from changen_cli.core.types import BoolArray, Box, Int32Array, UInt8Array

FloatArray = npt.NDArray[np.float32]
Predict = Callable[[UInt8Array], FloatArray]
"""uint8 ``[h, w, 3]`` to class probabilities ``[K, h, w]``."""

FEWEST_PX = 32
"""Smaller events are not looked at: too little of them is away from their rim."""
_REACH_PX = 24
_RING_PX = 12
_RIM_PX = 16
_FEWEST_PAIRS = 24
_CONTEXT_PX = 24
_WINDOW_PX = 256
_BUDGET_PX = 256 * 256
"""Of so many pixels a date labels are looked up, those of the largest events: it is most of what the gate costs."""
_NO_GRAIN = 1.0
"""Grey levels: steps in hue below are those of rounding and compression."""
_KNOWN = 0.25
"""Where the segmenter finds a class on unchanged ground with less probability, it does not know it there."""
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32)


@dataclass(frozen=True)
class EventFigures:
    """How one event was drawn; None where it cannot be said.

    Attributes:
        seam: Step in colour across the rim of what was redrawn over that between neighbouring pixels around it; 1
            where nothing shows. Only where the mask has no edge.
        saturated: Share of its pixels that are white or black altogether, beyond that of what is around it or of its
            class, the larger one.
        sharpness: Fine detail over that of what is around it and of its class; 1 where it lies between the two.
        grain: Steps in hue between neighbouring pixels over those of what is around it or of its class, the larger one;
            drawn noise is coloured, real noise hardly is.
        colour: Distance of its mean hue from that of what is around it or of its class, the nearer one, in grey
            levels of Cb and Cr. Brightness is left out: a white roof on dark ground is nothing strange.
        visible: How far its pixels are, on average, from those of the date before, in grey levels.
        agreement: How probable a segmenter finds its class, over how probable it finds that class on unchanged ground.
    """

    seam: float | None
    saturated: float
    sharpness: float | None
    grain: float | None
    colour: float | None
    visible: float
    agreement: float | None = None

    def record(self) -> dict[str, float]:
        """The figures there are, as JSON values."""
        return {name: round(float(value), 3) for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, eq=False)
class Piece:
    """Where one event lies.

    Attributes:
        box: Half-open pixel box.
        shape: bool ``[h, w]``, its pixels within the box.
        to_class: The class it is to show.
    """

    box: Box
    shape: BoolArray
    to_class: int


def measure_step(
    before: UInt8Array,
    after: UInt8Array,
    masks: UInt8Array,
    instances: Int32Array,
    pieces: Sequence[Piece],
    labels: LabelCheck | None = None,
) -> list[EventFigures | None]:
    """Measure the events of one step.

    Args:
        before: uint8 ``[H, W, 3]``, the date before.
        after: uint8 ``[H, W, 3]``, the date that was drawn.
        masks: uint8 ``[2, H, W]``, before and after.
        instances: int32 ``[H, W]``, objects after.
        pieces: The events.
        labels: Looks up labels; None leaves that out.

    Returns:
        One per event; None for those too small to tell.
    """
    large = [number for number, piece in enumerate(pieces) if piece.shape.sum() >= FEWEST_PX]
    found: list[EventFigures | None] = [None] * len(pieces)
    if not large:
        return found
    step = _Step(before, after, masks, instances)
    agreed = labels.agreement(after, masks, [pieces[number] for number in large]) if labels else [None] * len(large)
    for number, agreement in zip(large, agreed, strict=True):
        found[number] = step.figures(pieces[number], agreement)
    return found


class _Step:
    """One step, with what all its events are compared with."""

    def __init__(self, before: UInt8Array, after: UInt8Array, masks: UInt8Array, instances: Int32Array) -> None:
        self._before, self._after, self._mask, self._instances = before, after, masks[1], instances
        self._still = masks[0] == masks[1]
        self._planes = after.astype(np.float32) @ _TO_YCC.T
        luma = self._planes[..., 0]
        self._fine = np.abs(luma - ndimage.gaussian_filter(luma, 1, truncate=3))
        steps = np.abs(np.diff(self._planes[..., 1:], axis=1, append=self._planes[:, -1:, 1:])).sum(axis=-1)
        self._coarse = steps + np.float32(_NO_GRAIN)
        ids = self._mask[self._still]
        self._counts = np.bincount(ids, minlength=256)
        self._extreme = _extreme(after)
        values = self._fine, self._coarse, self._extreme, self._planes[..., 1], self._planes[..., 2]
        self._sums = np.stack([np.bincount(ids, value[self._still], minlength=256) for value in values])

    def figures(self, piece: Piece, agreement: float | None) -> EventFigures:
        """Measure one event."""
        where, own = _around(piece, self._mask.shape)
        outside = ndimage.distance_transform_edt(~own)
        ring = self._still[where] & (outside > 0) & (outside <= _RING_PX)
        inner = ndimage.binary_erosion(own, iterations=2)
        inner = inner if inner.sum() >= FEWEST_PX else own
        planes, fine, extreme = self._planes[where], self._fine[where], self._extreme[where]
        like = self._references(piece.to_class, where, ring)
        coarse = max((usual for _, usual, *_ in like), default=None)
        return EventFigures(
            seam=self._seam(where, outside),
            saturated=max(0.0, float(extreme[own].mean()) - max((usual for *_, usual, _ in like), default=0.0)),
            sharpness=_between(float(fine[inner].mean()), [detail for detail, *_ in like]),
            grain=None if coarse is None else float(self._coarse[where][inner].mean()) / coarse,
            colour=min((float(np.hypot(*(planes[inner, 1:].mean(axis=0) - hue))) for *_, hue in like), default=None),
            visible=float(_moved(self._before[where], self._after[where])[own].mean()),
            agreement=agreement,
        )

    def _references(
        self, class_id: int, where: tuple[slice, slice], ring: BoolArray
    ) -> list[tuple[float, float, float, npt.NDArray[np.floating]]]:
        """Detail, steps in hue, saturation and mean hue of what is around an event, and of its class in the scene."""
        found: list[tuple[float, float, float, npt.NDArray[np.floating]]] = []
        if ring.sum() >= FEWEST_PX:
            means = [float(values[where][ring].mean()) for values in (self._fine, self._coarse, self._extreme)]
            found.append((means[0], means[1], means[2], self._planes[where][ring][:, 1:].mean(axis=0)))
        if (count := self._counts[class_id]) >= FEWEST_PX:
            detail, coarse, extreme, *hue = (self._sums[:, class_id] / count).tolist()
            found.append((detail, coarse, extreme, np.array(hue)))
        return found

    def _seam(self, where: tuple[slice, slice], outside: npt.NDArray[np.float64]) -> float | None:
        different = (self._before[where] != self._after[where]).any(axis=-1)
        closed = ndimage.binary_closing(np.pad(different, 3), iterations=2)[3:-3, 3:-3] | different
        area = ndimage.binary_fill_holes(closed)
        mask, objects = self._mask[where], self._instances[where]
        edges = np.zeros(area.shape, dtype=np.bool_)
        for axis in (0, 1):  # both sides of every edge of the mask: an edge in the image is wanted there
            one, other = _sides(axis)
            edge = (mask[one] != mask[other]) | (objects[one] != objects[other])
            edges[one] |= edge
            edges[other] |= edge
        # Labels of people and edges in images lie a pixel or two apart.
        plain = ~ndimage.binary_dilation(edges, iterations=2) & (outside <= _RIM_PX)
        beyond = ~ndimage.binary_dilation(area, iterations=2)
        rim, usual = [], []
        for axis in (0, 1):
            one, other = _sides(axis)
            usable = plain[one] & plain[other]
            step = np.linalg.norm(self._planes[where][one] - self._planes[where][other], axis=-1)
            rim.append(step[usable & (area[one] != area[other])])
            usual.append(step[usable & beyond[one] & beyond[other]])
        across, around = np.concatenate(rim), np.concatenate(usual)
        if min(len(across), len(around)) < _FEWEST_PAIRS:
            return None
        # One grey level: in plain areas rounding, not the image, decides what is below.
        return float((across.mean() + 1) / (around.mean() + 1))


def _around(piece: Piece, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], BoolArray]:
    """The box of an event with its surroundings, clipped to the image; and the event's pixels in it."""
    row0, col0, row1, col1 = piece.box
    top, left = max(0, row0 - _REACH_PX), max(0, col0 - _REACH_PX)
    where = slice(top, min(shape[0], row1 + _REACH_PX)), slice(left, min(shape[1], col1 + _REACH_PX))
    own = np.zeros((where[0].stop - top, where[1].stop - left), dtype=np.bool_)
    own[row0 - top : row1 - top, col0 - left : col1 - left] = piece.shape
    return where, own


def _sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of an array that give the two neighbours of every pair along an axis."""
    head, tail = slice(None, -1), slice(1, None)
    return ((head, slice(None)), (tail, slice(None))) if axis == 0 else ((slice(None), head), (slice(None), tail))


def _extreme(pixels: UInt8Array) -> BoolArray:
    """Which of ``[..., 3]`` are white or black altogether."""
    return np.asarray((pixels >= 253).all(axis=-1) | (pixels <= 2).all(axis=-1))


def _between(value: float, references: Sequence[float]) -> float | None:
    """A figure over the nearer of the references; 1 between them."""
    if not references:
        return None
    # A tenth of a grey level: still water, stored as JPEG, has no detail at all.
    low, high = min(references) + 0.1, max(references) + 0.1
    return min(1.0, (value + 0.1) / low) if value + 0.1 < high else (value + 0.1) / high


def _moved(before: UInt8Array, after: UInt8Array) -> FloatArray:
    """Distance in colour between two dates, in little patches, for a shift of a pixel's noise is not seen."""
    change = (after.astype(np.float32) - before.astype(np.float32)) @ _TO_YCC.T
    return np.asarray(np.linalg.norm(ndimage.uniform_filter(change, (3, 3, 0)), axis=-1))


class LabelCheck:
    """Does a segmenter find in the drawn pixels the class they are to show?

    Segmenters err, more on some ground than on other: what counts is how the answer for what was drawn compares with
    that for unchanged ground of the same class nearby.

    Args:
        predict: Gives class probabilities of an image.
        meanings: Class of the masks → classes of the segmenter it may show as, and whether those or all others are
            meant; classes that are missing are not looked up.
    """

    def __init__(self, predict: Predict, meanings: Mapping[int, tuple[tuple[int, ...], bool]]) -> None:
        self._predict, self._meanings = predict, meanings

    def agreement(self, image: UInt8Array, masks: UInt8Array, pieces: Sequence[Piece]) -> list[float | None]:
        """Look up the largest events of a date.

        Args:
            image: uint8 ``[H, W, 3]``.
            masks: uint8 ``[2, H, W]``, before and after.
            pieces: The events.

        Returns:
            Of each event, the mean probability of its class over that on unchanged ground; None where the class is
            not known to the segmenter, in general or here, or the event was not looked up.
        """
        still, mask = masks[0] == masks[1], masks[1]
        shares: dict[int, float] = {}
        real: dict[int, list[float]] = {}
        left = _BUDGET_PX
        for number in sorted(range(len(pieces)), key=lambda number: -int(pieces[number].shape.sum())):
            piece = pieces[number]
            if piece.to_class not in self._meanings or left <= 0:
                continue
            where, own = _window(piece, mask.shape)
            if own.sum() < FEWEST_PX:
                continue
            window = image[where]
            left -= window.shape[0] * window.shape[1]
            probabilities = self._predict(window)
            shares[number] = float(self._of(probabilities, piece.to_class)[own].mean())
            for class_id in self._meanings:
                same = still[where] & (mask[where] == class_id)
                if same.any():
                    sums = real.setdefault(class_id, [0.0, 0.0])
                    sums[0] += float(self._of(probabilities, class_id)[same].sum(dtype=np.float64))
                    sums[1] += int(same.sum())
        usual = {class_id: total / count for class_id, (total, count) in real.items() if count >= 4 * FEWEST_PX}
        known = {class_id: share for class_id, share in usual.items() if share >= _KNOWN}
        return [
            shares[number] / known[piece.to_class] if number in shares and piece.to_class in known else None
            for number, piece in enumerate(pieces)
        ]

    def _of(self, probabilities: FloatArray, class_id: int) -> FloatArray:
        wanted, these = self._meanings[class_id]
        share = probabilities[list(wanted)].sum(axis=0)
        return np.asarray(share if these else 1 - share)


def _window(piece: Piece, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], BoolArray]:
    """A window about an event, or about its middle where that is larger; and the event's pixels in it."""
    sides, starts = [], []
    for axis in (0, 1):
        low, high, extent = piece.box[axis], piece.box[axis + 2], shape[axis]
        length = min(extent, _WINDOW_PX, high - low + 2 * _CONTEXT_PX)
        start = min(max(0, (low + high - length) // 2), extent - length)
        sides.append(slice(start, start + length))
        starts.append(start)
    own = np.zeros(shape, dtype=np.bool_)
    own[piece.box[0] : piece.box[2], piece.box[1] : piece.box[3]] = piece.shape
    where = (sides[0], sides[1])
    return where, own[where]
