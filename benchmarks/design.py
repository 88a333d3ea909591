"""Why the bundled model is built and trained as it is: variants of the design at equal CPU time, one table.

Usage: python benchmarks/design.py DATA FOLDER[:class,...][@reduce] ... --output RUNS [--minutes 3] [--variants a,b]
           [--vae FOLDER] [--settings 0.3:20] [--scenes N] [--train FOLDER...] [--segmenter PATH]

DATA holds the training sets (see tools/train_bundled.py), FOLDERs labelled scenes of places kept out of them. Every
variant is trained from nothing for the same CPU time of one core on 64 px crops, then judged like benchmarks/quality.py
does. Variants whose folder in RUNS holds a model already are not trained again. "latent" needs --vae, an autoencoder
made by changen train --stage vae.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from quality import evaluate_denoiser, prepare
from train_bundled import load

from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.synthesis.models import load_model, read_facts
from changen_cli.synthesis.pipeline import ChangenPipeline
from changen_cli.synthesis.schedulers import make_scheduler
from changen_cli.synthesis.transformer import RSDiT
from changen_cli.training.denoiser import DenoiserSettings, DenoiserTask
from changen_cli.training.loop import LoopSettings, Trainer
from changen_cli.training.objective import NoiseLevels
from changen_cli.training.sizes import FLOW, VELOCITY, Denoiser, new_denoiser, seeded
from changen_cli.workflows.models import open_autoencoder

BASE = DenoiserSettings(crop_size=64)
EVERY_LEVEL = replace(BASE, noise=NoiseLevels(start_share=1.0, start_limit=1.0, power=1.0))
LOOP = LoopSettings(learning_rate=1e-3, warmup_images=400, seed=1, ema_decay=0.995, dtype="bfloat16", max_images=10**6)


def hybrid(**settings: Any) -> Denoiser:
    """The shape of changen-mini; learns the velocity unless told otherwise."""
    return new_denoiser("mini", "pixel", 0, **(VELOCITY | settings))


def transformer(patch_size: int) -> Denoiser:
    """A pixel transformer of about the same size: x-prediction flow matching, plain patches."""
    return seeded(
        RSDiT, 0, in_channels=3, condition_channels=4, patch_size=patch_size, hidden_size=192, depth=8, num_heads=3,
        label_channels=9, learn_sigma=False, classes=OPENEARTHMAP, unknown_plane=True, codec="pixel", **FLOW,
    )  # fmt: skip


VARIANTS: dict[str, tuple[Callable[[], Denoiser], DenoiserSettings]] = {
    "hybrid": (hybrid, BASE),
    "unet": (lambda: hybrid(depth=0), BASE),
    "unet-flow": (lambda: hybrid(depth=0, **FLOW), BASE),
    "hybrid-all-levels": (hybrid, EVERY_LEVEL),
    "patch8": (lambda: transformer(8), BASE),
    "hybrid-no-pre-event": (hybrid, replace(BASE, conditioned=False)),
    "hybrid-flow": (lambda: hybrid(**FLOW), BASE),
    "patch4": (lambda: transformer(4), BASE),
    "patch16": (lambda: transformer(16), BASE),
    "patch8-conv-stem": (lambda: hybrid(widths=(16, 16, 16), blocks_per_level=(1, 1, 1), depth=8, **FLOW), BASE),
    "hybrid-plain-colour": (hybrid, replace(BASE, chroma_weight=1.0)),
    "latent": (lambda: new_denoiser("mini", "vae", 0, depth=8), BASE),
}


def learn(name: str, output: Path, data: Path, minutes: float, vae: Any) -> None:
    """Train one variant for its share of CPU time."""
    make, settings = VARIANTS[name]
    train, held = load(data)
    task = DenoiserTask(make(), train, settings, validation=held, vae=vae)
    trainer = Trainer(task, LOOP, output)
    started = time.process_time()
    while time.process_time() - started < 60 * minutes:
        trainer.step(trainer.batch_at(trainer.images))
    with trainer.averaged(), torch.no_grad():
        task.facts = {"minutes": minutes} | {name: round(value, 2) for name, value in task.validate().items()}
        output.mkdir(parents=True, exist_ok=True)
        task.save(output, trainer.images)


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train", nargs="*", default=[])
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--vae")
    parser.add_argument("--settings", default="0.3:20")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--segmenter", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in options.variants.split(",") if name != "latent" or options.vae]
    bench = None
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        folder = options.output / name
        vae = None
        if name == "latent":
            vae, _ = open_autoencoder(options.vae, {"in_channels": 4})
        if not (folder / "model.safetensors").is_file():
            learn(name, folder, options.data, options.minutes, vae)
        cached = folder / f"quality-{options.settings.replace(':', '-')}.json"
        if not cached.is_file():
            bench = bench or prepare(
                options.folders, train=options.train, scenes=options.scenes, segmenter=options.segmenter
            )
            model = load_model(folder / "model.safetensors").to(torch.bfloat16)
            pipeline = ChangenPipeline(model, make_scheduler("dpm++", model.config), vae)
            figures = evaluate_denoiser(pipeline, options.settings, bench)
            cached.write_text(json.dumps(figures))
        facts = read_facts(folder / "model.safetensors")
        size = sum(value.numel() for value in load_model(folder / "model.safetensors").parameters()) / 1e6
        figures = json.loads(cached.read_text())["settings"][options.settings]
        rows[name] = {"M parameters": size, "crops": facts["images_seen"], "PSNR t100": facts["psnr_t100"]} | figures
    shown = Table(title=f"{options.minutes:g} min of one core each, then {options.settings}")
    columns = ("M parameters", "crops", "PSNR t100", "fd_ratio_create", "fd_ratio_remove", "iou_all", "seam_create",
               "seam_remove", "texture_create", "texture_remove", "grain_create", "seconds_per_date")  # fmt: skip
    for column in ("variant", *columns):
        shown.add_column(column, justify="right")
    for name, row in rows.items():
        shown.add_row(name, *(f"{row[column]:.3g}" if column in row else "" for column in columns))
    Console(width=200).print(shown)


if __name__ == "__main__":
    main()
