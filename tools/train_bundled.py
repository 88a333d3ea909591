"""How ``changen-mini`` is trained: sets, places kept out, settings.

Usage: python tools/train_bundled.py DATA --output MODEL [--init MODEL] [--max-images N] [--resume]

DATA holds one folder per set, each with images/*.jpg and masks/*.png of the same stem: the sets and their licences are
listed in docs/model-card.md. Masks hold the ids of SETS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from changen_cli.core.types import IGNORE
from changen_cli.synthesis.models import load_model
from changen_cli.training.denoiser import DenoiserSettings, DenoiserTask
from changen_cli.training.loop import LoopSettings, Step, run
from changen_cli.training.sizes import new_denoiser
from changen_cli.training.tiles import TrainingTile
from changen_cli.workflows.setup import model_path


@dataclass(frozen=True)
class TrainingSet:
    """One set: its ids as OpenEarthMap ids (0: none of those told apart, 255: no label), and the places kept out."""

    folder: str
    ids: dict[int, int]
    held: Callable[[str], bool]
    max_reduction: float
    times: int = 1
    labelled: bool = True
    every: int = 1


SETS = (
    # unlabelled, building, land, road, vegetation, water
    TrainingSet(
        "dubai-mbrsc-lulc",
        {0: IGNORE, 1: 8, 2: 1, 3: 4, 4: 2, 5: 6},
        lambda stem: stem.startswith("dubai_tile6"),
        max_reduction=1.5,
    ),
    TrainingSet(
        "oam-banepa-buildings",
        {0: 0, 1: 8},
        lambda stem: stem.split("_")[2] in ("220247", "220248"),
        max_reduction=4.0,
        times=2,
    ),
    # Weak labels: 3 is any surface without plants, which is none of the eight classes in particular.
    TrainingSet(
        "naip-ca-2020-weaklulc", {0: IGNORE, 2: 2, 3: 0, 5: 5, 6: 6}, lambda stem: "eureka" in stem, max_reduction=1.4
    ),
    TrainingSet("naip-ca-earlier", {}, lambda stem: "eureka" in stem, max_reduction=1.4, labelled=False, every=2),
)


def load(data: Path) -> tuple[list[TrainingTile], list[TrainingTile]]:
    """Read all sets; returns tiles to learn from, and those of the places kept out."""
    train: list[TrainingTile] = []
    held: list[TrainingTile] = []
    for item in SETS:
        table = np.full(256, IGNORE if not item.labelled else 0, dtype=np.uint8)
        table[IGNORE] = IGNORE
        for own, known in item.ids.items():
            table[own] = known
        found: list[TrainingTile] = []
        for path in sorted((data / item.folder / "images").glob("*.jpg")):
            image = np.asarray(Image.open(path).convert("RGB"))
            mask = data / item.folder / "masks" / f"{path.stem}.png"
            ids = np.asarray(Image.open(mask)) if item.labelled else np.full(image.shape[:2], IGNORE, np.uint8)
            tile = TrainingTile(image, table[ids], f"{item.folder}/{path.stem}", item.max_reduction)
            (held if item.held(path.stem) else found).append(tile)
        train += found[:: item.every] * item.times
        print(f"{item.folder}: {len(found[:: item.every])} tiles")
    return train, held


def main() -> None:
    """Train the denoiser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--init", help="model to continue from")
    parser.add_argument("--max-images", type=int, default=40_000)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, held = load(options.data)
    model = load_model(model_path(options.init)) if options.init else new_denoiser("mini", "pixel", options.seed)
    settings = LoopSettings(
        max_images=options.max_images,
        dtype=options.dtype,
        learning_rate=options.learning_rate,
        warmup_images=400,
        ema_decay=0.999,
        save_every=1600,
        validate_every=3200,
        seed=options.seed,
    )

    def told(step: Step) -> None:
        if step.images % 160 == 0:
            print(f"{step.images} images, loss {step.loss:.4f}, {step.images_per_s:.2f}/s", flush=True)

    run(
        DenoiserTask(model, train, DenoiserSettings(), validation=held),
        settings,
        options.output,
        device="cuda" if torch.cuda.is_available() else "cpu",
        resume=options.resume,
        on_step=told,
        on_figures=lambda images, figures: print(images, figures, flush=True),
    )


if __name__ == "__main__":
    main()
