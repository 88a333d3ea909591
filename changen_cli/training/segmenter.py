"""Training the land-cover segmenter on sets whose labels differ: only what a label really says is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.types import IGNORE, BoolArray, UInt8Array
from changen_cli.synthesis.models import save_model
from changen_cli.synthesis.segmenter import LandCoverSegmenter
from changen_cli.training.tiles import Crops, FloatArray, TrainingTile

_COLOURS = np.array(
    [
        [128, 0, 0], [0, 255, 36], [148, 148, 148], [255, 255, 255],
        [34, 97, 38], [0, 69, 255], [75, 181, 73], [222, 31, 7],
    ],
    dtype=np.uint8,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class LabelSet:
    """Tiles labelled the same way.

    Attributes:
        name: For figures and messages.
        tiles: Their ``classes`` as :class:`~changen_cli.training.tiles.TrainingTile` has them.
        named: Classes, 1..8, the set tells apart; label 0 then means any of the others.
        coarse: What a label means where it is not one class, e.g. ``{2: {2, 5}}`` where grass and trees share a label.
        share: Share of the crops drawn from this set, relative to the other sets.
    """

    name: str
    tiles: Sequence[TrainingTile]
    named: frozenset[int]
    coarse: Mapping[int, frozenset[int]] = field(default_factory=dict)
    share: float = 1.0

    def allowed(self) -> BoolArray:
        """Which classes each label allows, bool ``[256, 8]``; a row of only True says nothing."""
        count = len(OPENEARTHMAP)
        table = np.ones((256, count), dtype=bool)
        for label in range(count + 1):
            others = frozenset(range(1, count + 1)) - self.named
            meant = self.coarse.get(label, frozenset({label}) if label else others)
            # A set that names every class says nothing with 0.
            if meant:
                table[label] = np.isin(np.arange(1, count + 1), list(meant))
        table[IGNORE] = True
        return table


def partial_cross_entropy(logits: Tensor, allowed: Tensor) -> Tensor:
    """Cross entropy where a label allows several classes: ``−log Σ p(class)`` over those it allows.

    With one allowed class this is the usual cross entropy, with all of them it is 0 and has no gradient; such pixels
    do not count in the mean. (Learning with partial labels: Jin & Ghahramani, NeurIPS 2002; Cour et al., JMLR 2011.)

    Args:
        logits: ``[B, K, H, W]``.
        allowed: bool ``[B, K, H, W]``; at least one class per pixel.

    Returns:
        The mean over the pixels that say something; 0 when none does.
    """
    logits = logits.float()
    known = ~allowed.all(dim=1)
    kept = logits.masked_fill(~allowed, float("-inf"))
    loss = logits.logsumexp(dim=1) - kept.logsumexp(dim=1)
    return (loss * known).sum() / known.sum().clamp(min=1)


class SegmenterTask:
    """Trains a :class:`~changen_cli.synthesis.segmenter.LandCoverSegmenter`.

    Args:
        model: The segmenter.
        sets: Training sets.
        held: The same kind of sets, of places held out, for figures.
        crop_px: Side of the training crops.
        facts: JSON values to store with the weights (data, licences).
    """

    def __init__(
        self,
        model: LandCoverSegmenter,
        sets: Sequence[LabelSet],
        held: Sequence[LabelSet] = (),
        *,
        crop_px: int = 128,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.networks: dict[str, nn.Module] = {"segmenter": model}
        self.model, self.held, self.crop_px = model, held, crop_px
        # Half of the crops are turned by any angle, and cut from the middle of a larger one for that.
        self._plain = [Crops(item.tiles, crop_px, jitter=False) for item in sets]
        self._turned = [Crops(item.tiles, -(-crop_px * 3 // 2), jitter=False) for item in sets]
        self._allowed = [item.allowed() for item in sets]
        shares = np.array([item.share if crops.tiles else 0.0 for item, crops in zip(sets, self._plain, strict=True)])
        self._shares = shares / shares.sum()
        self.facts = dict(facts or {})
        self.figures: dict[str, float] = {}
        self.settings: Mapping[str, Any] = {
            "crop_px": crop_px,
            "sets": [[item.name, len(item.tiles), item.share] for item in sets],
            "model": {key: value for key, value in dict(model.config).items() if not key.startswith("_")},
        }

    def batch(self, rng: np.random.Generator, size: int) -> tuple[FloatArray, BoolArray]:
        """Images ``[B, 3, S, S]`` in [-1, 1] and the classes their labels allow, ``[B, 8, S, S]``."""
        images, labels = [], []
        for _ in range(size):
            number = int(rng.choice(len(self._shares), p=self._shares))
            turned = self._turned[number].tiles and rng.random() < 0.5
            crops = self._turned[number] if turned else self._plain[number]
            image, classes, _ = crops.draw(rng)
            if turned:
                image, classes = _turn(image, classes, self.crop_px, rng.uniform(0, 90))
            images.append(disturb(image, rng))
            labels.append(self._allowed[number][classes].transpose(2, 0, 1))
        return np.stack(images), np.stack(labels)

    def losses(
        self, networks: Mapping[str, nn.Module], batch: Any, rng: np.random.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        """The partial-label cross entropy of a batch."""
        device = next(self.model.parameters()).device
        images, allowed = (torch.from_numpy(part).to(device) for part in batch)
        yield "segmenter", partial_cross_entropy(networks["segmenter"](images), allowed)

    def validate(self) -> dict[str, float]:
        """Intersection over union of every label of every held-out set; building first."""
        figures = {}
        for item in self.held:
            for label, value in label_iou(self.model, item).items():
                name = OPENEARTHMAP[label - 1] if label else "rest"
                figures[f"iou_{item.name}_{name}"] = value
        self.figures = dict(sorted(figures.items(), key=lambda pair: not pair[0].endswith("_building")))
        return self.figures

    def grid(self) -> UInt8Array | None:
        """Held-out images over what the segmenter says of them, in OpenEarthMap's colours."""
        columns = []
        for item in self.held:
            for tile in item.tiles[:: max(1, len(item.tiles) // 3)][:3]:
                image = tile.image[:256, :256]
                said = _COLOURS[self.model.predict(image).argmax(axis=0)]
                shown = Image.fromarray(np.concatenate([image, said]))
                columns.append(np.asarray(shown.resize((256, 512), Image.Resampling.NEAREST)))
        return np.concatenate(columns, axis=1) if columns else None

    def save(self, folder: Path, images_seen: int) -> None:
        """Write ``model.safetensors`` as float16, with what it was trained on and how well it does."""
        figures = {name: round(value, 4) for name, value in self.figures.items()}
        facts = {"images_seen": images_seen, **self.facts, "held_out": figures}
        save_model(self.model, folder / "model.safetensors", dtype=torch.float16, **facts)


def label_iou(model: LandCoverSegmenter, item: LabelSet) -> dict[int, float]:
    """Intersection over union per label, pooled over all tiles of a set.

    A pixel is said to have a label when the likeliest class is one the label allows. Unlabelled pixels do not count.

    Args:
        model: A segmenter in evaluation mode.
        item: Labelled tiles.

    Returns:
        For every label, 0..8, that occurs and says something: a value in [0, 1].
    """
    table = item.allowed()
    counts: dict[int, npt.NDArray[np.int64]] = {}
    for tile in item.tiles:
        said = model.predict(tile.image).argmax(axis=0)
        known = ~table[tile.classes].all(axis=-1)
        for label in (label for label in range(len(OPENEARTHMAP) + 1) if not table[label].all()):
            is_said, is_true = table[label][said] & known, (tile.classes == label) & known
            found = np.array([(is_said & is_true).sum(), (is_said | is_true).sum(), is_true.sum()])
            counts[label] = counts.get(label, np.zeros(3, np.int64)) + found
    return {label: float(both / either) for label, (both, either, true) in counts.items() if true}


def disturb(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Vary colours far, blur or add noise: sensors and seasons differ more than the few training places do.

    Args:
        image: float32 ``[3, S, S]`` in [-1, 1].
        rng: Source of all randomness.

    Returns:
        The same shape and range.
    """
    unit = np.clip((image + 1) / 2, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.2)))
    grey = unit.mean(axis=0, keepdims=True)
    unit = grey + (unit - grey) * np.float32(rng.uniform(0.5, 1.2))
    gain, offset = np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.05, (3, 1, 1))), rng.normal(0, 0.03, (3, 1, 1))
    unit = unit * gain.astype(np.float32) + offset.astype(np.float32)
    kind = rng.random()
    if kind < 0.1:
        blurred = F.avg_pool2d(F.pad(torch.from_numpy(unit)[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
        unit = unit + (blurred.numpy() - unit) * np.float32(rng.uniform(0.3, 1))
    elif kind < 0.2:
        unit = unit + rng.normal(0, rng.uniform(0.005, 0.03), unit.shape).astype(np.float32)
    return np.clip(unit, 0, 1).astype(np.float32) * 2 - 1


def _turn(image: FloatArray, classes: UInt8Array, size: int, degrees: float) -> tuple[FloatArray, UInt8Array]:
    """Turn a crop 1.5 times as wide as ``size`` and keep its middle, which holds no corner of the turned frame."""
    grid = F.affine_grid(_rotation(degrees, size / classes.shape[0]), [1, 1, size, size], align_corners=False)
    turned = F.grid_sample(torch.from_numpy(image)[None], grid, mode="bilinear", align_corners=False)[0].numpy()
    labels = torch.from_numpy(classes.astype(np.float32))[None, None]
    found = F.grid_sample(labels, grid, mode="nearest", align_corners=False)[0, 0].numpy().astype(np.uint8)
    return turned, found


def _rotation(degrees: float, share: float) -> Tensor:
    """The affine map of a turn that keeps ``share`` of the side, float32 ``[1, 2, 3]``."""
    angle = np.deg2rad(degrees)
    cos, sin = share * np.cos(angle), share * np.sin(angle)
    return torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]], dtype=torch.float32)
