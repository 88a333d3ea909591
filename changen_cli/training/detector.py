"""Training a change detector: what changed by cross entropy and Dice, and the classes of both dates beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from changen_cli.core.scores import ChangeScores
from changen_cli.core.seeding import derive_seed
from changen_cli.core.types import IGNORE, UInt8Array
from changen_cli.synthesis.detector import ChangeDetector, load_detector
from changen_cli.synthesis.hub import BUNDLED, SEGMENTER
from changen_cli.synthesis.models import save_model
from changen_cli.synthesis.segmenter import load_segmenter
from changen_cli.training.detection_pairs import Batch, PairSource, PairTile, make_batch
from changen_cli.training.segmenter import partial_cross_entropy

Size = Literal["small", "1x256"]
SIZES: dict[str, dict[str, Any]] = {
    "small": {"widths": (48, 96, 160), "blocks_per_level": (1, 2, 2), "head_layers": 1, "head_width": 96},
    "1x256": {"widths": (64, 128, 256, 512), "blocks_per_level": (2, 2, 2, 2), "head_layers": 1, "head_width": 256},
}
"""``small`` has the trunk of the bundled segmenter (2.1 M parameters), ``1x256`` the paper's head (18.4 M)."""


def new_detector(size: Size, seed: int, *, init: str | None = None, **settings: Any) -> ChangeDetector:
    """Create a detector whose random weights depend on ``seed`` only.

    Args:
        size: Its shape.
        seed: Seed of the weights.
        init: ``"segmenter"`` takes the trunk from the bundled segmenter, a path all weights from another detector,
            whose shape then holds; None nothing.
        **settings: Arguments of :class:`~changen_cli.synthesis.detector.ChangeDetector` that differ from the size's.

    Raises:
        ModelError: When the file is no detector, or the segmenter's trunk has another shape.
    """
    if init is not None and init != "segmenter":
        return load_detector(Path(init)).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights", "detector"))
        model = ChangeDetector(**(SIZES[size] | settings))
    if init == "segmenter":
        model.trunk.load_state_dict(load_segmenter(BUNDLED / f"{SEGMENTER}.safetensors").state_dict())
    return model


def change_loss(logits: Tensor, change: Tensor) -> Tensor:
    """Binary cross entropy plus Dice, over the pixels that are known.

    Cross entropy makes probabilities of the answers; Dice (Milletari et al., 3DV 2016) keeps the few changed
    pixels from being outvoted.

    Args:
        logits: ``[B, H, W]``.
        change: uint8 ``[B, H, W]``: 1, 0, or 255 where not known.
    """
    known, true = (change != IGNORE).float(), (change == 1).float()
    logits = logits.float()
    entropy = F.binary_cross_entropy_with_logits(logits, true, reduction="none")
    said = logits.sigmoid() * known
    dice = 1 - (2 * (said * true).sum() + 1) / (said.sum() + true.sum() + 1)
    return (entropy * known).sum() / known.sum().clamp(min=1) + dice


class DetectorTask:
    """Trains a :class:`~changen_cli.synthesis.detector.ChangeDetector`.

    Args:
        model: The detector.
        source: Where its crops come from.
        held: Pairs of places held out, for figures.
        facts: JSON values to store with the weights (data, licences).
    """

    def __init__(
        self,
        model: ChangeDetector,
        source: PairSource,
        held: Sequence[PairTile] = (),
        *,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.networks: dict[str, nn.Module] = {"detector": model}
        self.model, self.source, self.held, self.facts = model, source, held, dict(facts or {})
        self.figures: dict[str, float] = {}
        config = {key: value for key, value in dict(model.config).items() if not key.startswith("_")}
        self.settings: Mapping[str, Any] = {"source": source.told, "model": config}

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw ``size`` crops of pairs."""
        return make_batch(self.source, size, rng)

    def losses(
        self, networks: Mapping[str, nn.Module], batch: Any, rng: np.random.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        """The loss of the change, and half of that of the classes where masks say anything."""
        device = next(self.model.parameters()).device
        before, after, change, allowed = (torch.from_numpy(part).to(device) for part in batch)
        answer = networks["detector"](before, after)
        yield "detector", change_loss(answer.change, change) + 0.5 * partial_cross_entropy(answer.classes, allowed)

    def validate(self) -> dict[str, float]:
        """F1, IoU, AP and so on, of all held-out pairs together."""
        scores = ChangeScores()
        for tile in self.held:
            said = self.model.predict(tile.before, tile.after)
            scores.add(said, tile.change == 1, tile.change != IGNORE)
        found = scores.figures() if self.held else {}
        self.figures = {name: value for name, value in found.items() if np.isfinite(value)}
        return self.figures

    def grid(self) -> UInt8Array | None:
        """Held-out pairs: earlier date, later date, what changed, what the detector says."""
        columns = []
        for tile in self.held[:: max(1, len(self.held) // 6)][:6]:
            said = (self.model.predict(tile.before, tile.after) * 255).astype(np.uint8)
            true = np.where(tile.change == IGNORE, 128, (tile.change == 1) * 255).astype(np.uint8)
            rows = [tile.before, tile.after, *(np.repeat(a[..., None], 3, axis=2) for a in (true, said))]
            small = [np.asarray(Image.fromarray(row).resize((192, 192))) for row in rows]
            columns.append(np.concatenate(small))
        return np.concatenate(columns, axis=1) if columns else None

    def save(self, folder: Path, images_seen: int) -> None:
        """Write ``model.safetensors`` as float16, with what it was trained on and how well it does."""
        figures = {name: round(value, 4) for name, value in self.figures.items()}
        facts = {"images_seen": images_seen, **self.facts, "held_out": figures}
        save_model(self.model, folder / "model.safetensors", dtype=torch.float16, **facts)
