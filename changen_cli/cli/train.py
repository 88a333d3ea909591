"""``changen train``: parse, collect tiles, train, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from changen_cli.cli.common import duration, result, say, split_list


def train(
    input: Annotated[
        list[Path], typer.Option("--input", "-i", help="Folder of images, labelled or not; may be repeated.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder; generate takes it as --model.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--classes", help="Class names of the masks in id order; once, or once per --input (- for none)."),
    ] = None,
    max_images: Annotated[int, typer.Option("--max-images", min=1, help="Crops to see in all.")] = 40_000,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Crops per optimiser step.")] = 16,
    crop_size: Annotated[int, typer.Option("--crop-size", min=32, help="Side of a crop in px, divisible by 8.")] = 128,
    max_reduction: Annotated[
        float, typer.Option("--max-reduction", min=1.0, help="Crops may be reduced by up to this factor.")
    ] = 1.5,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 5e-4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights, crops and noise.")] = 0,
    save_every: Annotated[int, typer.Option("--save-every", min=1, help="Images between checkpoints.")] = 2_000,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint in --output.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option("--dtype", help="auto: bfloat16 on CUDA, else float32. CPUs with AVX512-BF16 gain from bfloat16."),
    ] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads. \\[default: cores - 1]")] = None,
) -> None:
    """Train a model of the shape of changen-mini on folders of images.

    Example: changen train --input ./tiles --classes background,building --output ./my-model
    """
    from changen_cli.core.errors import UsageError
    from changen_cli.workflows.train import TrainingConfig, start_training
    from changen_cli.workflows.training_data import load_tiles

    names = [split_list(None if text == "-" else text) for text in classes or ["-"]]
    if len(names) == 1:
        names *= len(input)
    if len(names) != len(input):
        raise UsageError(f"{len(input)} --input but {len(names)} --classes", "Give --classes once, or once per --input")
    tiles = []
    for folder, folder_classes in zip(input, names, strict=True):
        loaded, skipped = load_tiles(folder, folder_classes, max_reduction=max_reduction)
        say(f"{folder}: {len(loaded)} tiles, {len(skipped)} skipped")
        for skip in skipped[:5]:
            say(f"  skipped {skip.path}: {skip.reason}")
        tiles += loaded
    config = TrainingConfig(
        max_images=max_images,
        batch_size=batch_size,
        crop_size=crop_size,
        learning_rate=lr,
        seed=seed,
        save_every=save_every,
        dtype=dtype,
    )

    def on_progress(images: int, loss: float, rate: float) -> None:
        left = duration((max_images - images) / max(rate, 1e-6))
        say(f"{images}/{max_images} images, loss {loss:.4f}, {rate:.1f} images/s, {left} left")

    start_training(tiles, config, output, resume=resume, device=device, threads=threads, on_progress=on_progress)
    result(str(output))
