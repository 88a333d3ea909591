"""``changen train``: parse, call the workflow, show progress."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from changen_cli.cli.common import result, split_list
from changen_cli.cli.training_progress import make_training_progress

_MODEL, _DATA, _LOOP, _RUN = "Model", "Data", "Learning", "Running"


def train(
    input: Annotated[
        list[Path],
        typer.Option("--input", "-i", help="Folder of images, labelled or not; may be repeated."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder; generate takes it as --model.")],
    stage: Annotated[
        Literal["denoiser", "vae"],
        typer.Option("--stage", help="Train the denoiser, or an autoencoder for --codec vae.", rich_help_panel=_MODEL),
    ] = "denoiser",
    size: Annotated[
        Literal["mini", "S", "B", "L", "XL"],
        typer.Option("--size", help="Size of the network; S to XL as published.", rich_help_panel=_MODEL),
    ] = "mini",
    codec: Annotated[
        Literal["pixel", "vae"],
        typer.Option("--codec", help="Denoise pixels, or latents of an autoencoder (--vae).", rich_help_panel=_MODEL),
    ] = "pixel",
    init: Annotated[
        str | None,
        typer.Option(
            "--init", help="Start from this model: a bundled name, a path or a Hub id.", rich_help_panel=_MODEL
        ),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option("--vae", help="Autoencoder for --codec vae: a path or a Hub id.", rich_help_panel=_MODEL),
    ] = None,
    license: Annotated[
        str, typer.Option("--license", help="Licence of the weights, stored with them.", rich_help_panel=_MODEL)
    ] = "",
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes",
            help="Class names of the masks in id order; once, or once per --input (- for none).",
            rich_help_panel=_DATA,
        ),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            "--layout",
            help="xbd, pairs or images; once, or once per --input (- detects it). \\[default: detected]",
            rich_help_panel=_DATA,
        ),
    ] = None,
    crop_size: Annotated[
        int,
        typer.Option(
            "--crop-size", min=32, help="Side of a crop in px, divisible by 8 (64 for latents).", rich_help_panel=_DATA
        ),
    ] = 128,
    max_reduction: Annotated[
        list[float] | None,
        typer.Option(
            "--max-reduction",
            min=1.0,
            help="Crops may be reduced by up to this factor; once, or once per --input. \\[default: 1.5]",
            rich_help_panel=_DATA,
        ),
    ] = None,
    validation_share: Annotated[
        float,
        typer.Option(
            "--validation-share", min=0, max=0.9, help="Share of the tiles kept out, by place.", rich_help_panel=_DATA
        ),
    ] = 0.1,
    max_images: Annotated[
        int, typer.Option("--max-images", min=1, help="Crops to see in all.", rich_help_panel=_LOOP)
    ] = 40_000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Crops per optimiser step.", rich_help_panel=_LOOP)
    ] = 16,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.", rich_help_panel=_LOOP)] = 5e-4,
    schedule: Annotated[
        Literal["constant", "cosine"],
        typer.Option(
            "--schedule", help="constant: decays over the last quarter; cosine: throughout.", rich_help_panel=_LOOP
        ),
    ] = "constant",
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of weights, crops and noise.", rich_help_panel=_LOOP)
    ] = 0,
    save_every: Annotated[
        int, typer.Option("--save-every", min=1, help="Images between checkpoints.", rich_help_panel=_RUN)
    ] = 2_000,
    validate_every: Annotated[
        int,
        typer.Option(
            "--validate-every", min=1, help="Images between validations and sample grids.", rich_help_panel=_RUN
        ),
    ] = 4_000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in --output.", rich_help_panel=_RUN)
    ] = False,
    device: Annotated[
        str,
        typer.Option("--device", help="auto, cpu, cuda; for several GPUs see docs/training.md.", rich_help_panel=_RUN),
    ] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(
            "--dtype",
            help="auto: bfloat16 on CUDA, else float32. CPUs with AVX512-BF16 gain from bfloat16.",
            rich_help_panel=_RUN,
        ),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", help="CPU threads. \\[default: cores - 1]", rich_help_panel=_RUN)
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, only the result.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Train a model on folders of images, labelled, unlabelled or mixed.

    Example: changen train --input ./tiles --classes background,building --output ./my-model

    The folder holds model.safetensors, checkpoint.pt (for --resume), log.jsonl, samples/ and tensorboard/.
    """
    from changen_cli.workflows.train import TrainInput, TrainRequest, train_model

    names = _per_input("--classes", classes or ["-"], len(input))
    factors = _per_input("--max-reduction", max_reduction or [1.5], len(input))
    layouts = _per_input("--layout", layout or ["-"], len(input))
    inputs = tuple(
        TrainInput(path, split_list(None if text == "-" else text), factor, None if kind == "-" else kind)
        for path, text, factor, kind in zip(input, names, factors, layouts, strict=True)
    )
    loop: dict[str, Any] = {
        "max_images": max_images,
        "batch_size": batch_size,
        "learning_rate": lr,
        "schedule": schedule,
        "seed": seed,
        "save_every": save_every,
        "validate_every": validate_every,
    }
    request = TrainRequest(
        inputs=inputs,
        output=output,
        stage=stage,
        size=size,
        codec=codec,
        init=init,
        vae=vae,
        license=license,
        crop_size=crop_size,
        validation_share=validation_share,
        loop=loop,
        resume=resume,
        device=device,
        dtype=dtype,
        threads=threads,
    )
    # One voice when several processes train together.
    first = os.environ.get("RANK", "0") == "0"
    with make_training_progress(quiet=quiet or not first) as progress:
        folder = train_model(request, progress)
    if first:
        result(str(folder))


def _per_input(name: str, values: list[Any], inputs: int) -> list[Any]:
    """One value for every input: given once for all, or once each."""
    from changen_cli.core.errors import UsageError

    if len(values) == 1:
        values = values * inputs
    if len(values) != inputs:
        raise UsageError(f"{inputs} --input but {len(values)} {name}", f"Give {name} once, or once per --input")
    return values
