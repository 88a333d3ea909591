"""``changen train-detector`` and ``changen detect``: parse, call the workflow, tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from changen_cli.cli.common import make_progress, result, result_json, say
from changen_cli.cli.training_progress import make_training_progress

_MODEL, _LOOP, _RUN = "Model", "Learning", "Running"

Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads. \\[default: cores - 1]", rich_help_panel=_RUN)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.", rich_help_panel=_RUN)]


def train_detector(
    datasets: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET...",
            help="Datasets made by changen, and folders of real pairs with labels: LEVIR-CD, WHU-CD, S2Looking, SECOND "
            "or xBD as published.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder; detect takes it as --model.")],
    size: Annotated[
        Literal["small", "1x256"],
        typer.Option("--size", help="2.1 M parameters, or 18.4 M with the paper's head.", rich_help_panel=_MODEL),
    ] = "small",
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            help="Start from this detector (fine-tuning), from segmenter (the bundled one's trunk), or from none. "
            "\\[default: segmenter for small, none for 1x256]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    license: Annotated[
        str, typer.Option("--license", help="Licence of the weights, stored with them.", rich_help_panel=_MODEL)
    ] = "",
    crop_size: Annotated[
        int, typer.Option("--crop-size", min=32, help="Side of a crop in px.", rich_help_panel=_LOOP)
    ] = 128,
    validation_share: Annotated[
        float,
        typer.Option(
            "--validation-share", min=0, max=0.9, help="Share of the pairs kept out, by place.", rich_help_panel=_LOOP
        ),
    ] = 0.1,
    max_images: Annotated[
        int, typer.Option("--max-images", min=1, help="Crops of pairs to see in all.", rich_help_panel=_LOOP)
    ] = 20_000,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Crops of pairs per optimiser step.", rich_help_panel=_LOOP)
    ] = 8,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.", rich_help_panel=_LOOP)] = 1e-3,
    schedule: Annotated[
        Literal["constant", "cosine"],
        typer.Option(
            "--schedule", help="constant: decays over the last quarter; cosine: throughout.", rich_help_panel=_LOOP
        ),
    ] = "constant",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of weights and crops.", rich_help_panel=_LOOP)] = 0,
    save_every: Annotated[
        int, typer.Option("--save-every", min=1, help="Crops between checkpoints.", rich_help_panel=_RUN)
    ] = 1_000,
    validate_every: Annotated[
        int, typer.Option("--validate-every", min=1, help="Crops between validations.", rich_help_panel=_RUN)
    ] = 4_000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in --output.", rich_help_panel=_RUN)
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.", rich_help_panel=_RUN)] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option("--dtype", help="auto: bfloat16 on CUDA, else float32.", rich_help_panel=_RUN),
    ] = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train a change detector (ChangeStar) on datasets of changen, on real pairs, or on both.

    Example: changen train-detector ./out --output ./detector && changen detect 2019.tif 2023.tif --model ./detector

    The folder holds model.safetensors, checkpoint.pt (for --resume), log.jsonl, samples/ and tensorboard/.
    """
    from changen_cli.workflows.train_detector import DetectorRequest
    from changen_cli.workflows.train_detector import train_detector as run

    loop: dict[str, Any] = {
        "max_images": max_images, "batch_size": batch_size, "learning_rate": lr, "schedule": schedule, "seed": seed,
        "save_every": save_every, "validate_every": validate_every, "warmup_images": 400,
    }  # fmt: skip
    request = DetectorRequest(
        datasets=tuple(datasets), output=output, size=size, init=init, license=license, crop_size=crop_size,
        validation_share=validation_share, loop=loop, resume=resume, device=device, dtype=dtype, threads=threads,
    )  # fmt: skip
    first = os.environ.get("RANK", "0") == "0"
    with make_training_progress(quiet=quiet or not first) as progress:
        folder = run(request, progress)
    if first:
        result(str(folder))


def detect(
    before: Annotated[Path, typer.Argument(metavar="A", help="An image, or a folder of images.")],
    after: Annotated[
        Path, typer.Argument(metavar="B", help="The same place at the other date; of folders, files of the same stem.")
    ],
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="A detector of changen train-detector: its folder or file."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The change map, .png or .tif; a folder for folders. \\[default: change.png, change.tif of a TIFF, "
            "changes/]",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Changed is what is more probable than this.")
    ] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.", rich_help_panel=_RUN)] = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Draw what changed between two images of one place: a map, its probabilities, and a picture to look at.

    Which image is called A makes no difference. Georeferenced images give GeoTIFFs with the reference of A.

    Example: changen detect 2019.tif 2023.tif --model ./detector --output change.tif
    """
    from changen_cli.workflows.detect import detect as run

    with make_progress(quiet=quiet, items="pairs", made="maps") as progress:
        done = run(
            before, after, model, output=output, threshold=threshold, device=device, threads=threads,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
    if as_json:
        result_json({"pairs": [{key: getattr(item, key) for key in item.__dataclass_fields__} for item in done]})
        return
    for item in done:
        if not quiet:
            say(f"{item.changed_share:.2%} changed; look at {item.overlay}")
        result(str(item.change))
