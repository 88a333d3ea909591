"""``changen generate``: parse, build the recipe, run, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from changen_cli.cli.common import duration, make_progress, result, result_json, say, split_list

_SOURCE, _EVENTS, _IMAGES, _RUN, _OUTPUT = "Source", "Events", "Images", "Run", "Output"


def option(*names: str, help: str, panel: str, default: str | None = None) -> Any:
    """An option that is left to the recipe's default unless given; ``default`` is only shown."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=default or False)


def generate(
    input: Annotated[
        Path,
        option(
            "--input",
            "-i",
            help="Folder of images: xBD/xView2 tree, or images/ beside masks/, or images alone.",
            panel=_SOURCE,
        ),
    ],
    output: Annotated[
        Path | None, option("--output", "-o", help="Where to write. \\[default: INPUT-changen]", panel=_OUTPUT)
    ] = None,
    steps: Annotated[
        int | None, option("--steps", help="Steps of change; a series has one date more.", panel=_EVENTS, default="1")
    ] = None,
    res: Annotated[
        int | None,
        option("--res", help="Tile size in px; larger scenes are tiled. \\[default: whole, up to 1024]", panel=_SOURCE),
    ] = None,
    layout: Annotated[
        Literal["xbd", "pairs", "images"] | None,
        option("--layout", help="Folder layout. \\[default: detected]", panel=_SOURCE),
    ] = None,
    classes: Annotated[
        str | None,
        option("--classes", help="Class names of the masks in id order, e.g. background,building,road.", panel=_SOURCE),
    ] = None,
    bands: Annotated[
        str | None,
        option(
            "--bands", help="Bands for red,green,blue from 1, e.g. 4,3,2. \\[default: by colour tag]", panel=_SOURCE
        ),
    ] = None,
    upsample: Annotated[
        bool | None, option("--upsample", help="Enlarge scenes smaller than --res instead of skipping.", panel=_SOURCE)
    ] = None,
    limit: Annotated[
        int | None, option("--limit", help="Stop after this many scenes; a tile counts as one.", panel=_SOURCE)
    ] = None,
    proposals: Annotated[
        Literal["auto", "regions", "sam", "none"] | None,
        option(
            "--proposals",
            help="How objects are found in images without masks; auto is regions, none refuses them.",
            panel=_SOURCE,
            default="auto",
        ),
    ] = None,
    sam_model: Annotated[
        str | None,
        option(
            "--sam-model",
            help="Segment Anything model of --proposals sam: path or Hub id.",
            panel=_SOURCE,
            default="facebook/sam-vit-base",
        ),
    ] = None,
    max_skipped: Annotated[
        str | None,
        option("--max-skipped", help="Share of broken scenes that is still a success.", panel=_SOURCE, default="20%"),
    ] = None,
    events: Annotated[
        str | None,
        option(
            "--events",
            help=(
                "Kinds of events: create and remove buildings; transition, land cover that becomes another. "
                "\\[default: create,remove; without masks remove]"
            ),
            panel=_EVENTS,
        ),
    ] = None,
    transitions: Annotated[
        str | None,
        option(
            "--transitions",
            help=(
                "Which class becomes which, and how often: openearthmap, urbanisation, deforestation, flood, "
                "published-s9, or a YAML file such as rates: {tree: {bareland: 0.1}}. \\[default: openearthmap]"
            ),
            panel=_EVENTS,
        ),
    ] = None,
    change_area: Annotated[
        str | None,
        option("--change-area", help="Share of pixels that change per step.", panel=_EVENTS, default="2-10%"),
    ] = None,
    negatives: Annotated[
        str | None,
        option("--negatives", help="Share of samples in which nothing changes.", panel=_EVENTS, default="0%"),
    ] = None,
    variants: Annotated[int | None, option("--variants", help="Samples per scene.", panel=_EVENTS, default="1")] = None,
    seed: Annotated[int | None, option("--seed", help="Seed of everything random.", panel=_EVENTS, default="0")] = None,
    model: Annotated[
        str | None,
        option("--model", "-m", help="Bundled model, path, or Hub id org/name.", panel=_IMAGES, default="changen-mini"),
    ] = None,
    vae: Annotated[
        str | None,
        option("--vae", help="Autoencoder of a model of latents: path or Hub id. \\[default: its own]", panel=_IMAGES),
    ] = None,
    scheduler: Annotated[
        Literal["dpm++", "ddim", "iddpm"] | None,
        option("--scheduler", help="Sampler.", panel=_IMAGES, default="dpm++"),
    ] = None,
    inference_steps: Annotated[
        int | None,
        option("--inference-steps", help="Steps of the whole noise schedule.", panel=_IMAGES, default="10"),
    ] = None,
    start: Annotated[
        Literal["exemplar", "noise"] | None,
        option("--start", help="Start from real pixels, or from pure noise.", panel=_IMAGES, default="exemplar"),
    ] = None,
    strength: Annotated[
        float | None,
        option("--strength", help="Noise put on an exemplar start, 0 to 1.", panel=_IMAGES, default="0.1"),
    ] = None,
    guidance_ratio: Annotated[
        float | None,
        option("--guidance-ratio", help="Share of steps that hold unchanged pixels.", panel=_IMAGES, default="1.0"),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        option("--guidance-scale", help="Classifier-free guidance; 1 leaves it out.", panel=_IMAGES, default="1.0"),
    ] = None,
    extent: Annotated[
        Literal["windows", "full"] | None,
        option(
            "--extent", help="Denoise windows around the change, or the full tile.", panel=_IMAGES, default="windows"
        ),
    ] = None,
    unchanged: Annotated[
        Literal["exact", "reacquired"] | None,
        option(
            "--unchanged",
            help="Unchanged pixels: bit-identical, or every date re-acquired.",
            panel=_IMAGES,
            default="reacquired",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, option("--batch-size", help="Scenes whose windows are pooled.", panel=_RUN, default="4")
    ] = None,
    device: Annotated[
        str | None, option("--device", help="cpu, cuda, cuda:1, mps.", panel=_RUN, default="auto")
    ] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"] | None,
        option("--dtype", help="Precision; auto is bfloat16 on CUDA.", panel=_RUN, default="auto"),
    ] = None,
    threads: Annotated[
        int | None, option("--threads", help="CPU threads of the model. \\[default: cores - 1]", panel=_RUN)
    ] = None,
    format: Annotated[
        Literal["folder", "parquet"] | None,
        option("--format", help="Image files, or Parquet shards.", panel=_OUTPUT, default="folder"),
    ] = None,
    overwrite: Annotated[
        bool | None, option("--overwrite", help="Replace an earlier run in the output folder.", panel=_OUTPUT)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, how long and how large.", rich_help_panel=_RUN)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, only the result.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Make image time series with exact change labels from a folder of single-date images.

    Example: changen generate --input ./xview2 --steps 3 --res 1024
    """
    from changen_cli.core.recipe import build_recipe

    sections: dict[str, dict[str, Any]] = {
        "source": {
            "input": str(input),
            "layout": layout,
            "classes": split_list(classes),
            "res": res,
            "upsample": upsample,
            "bands": split_list(bands),
            "proposals": proposals,
            "sam_model": sam_model,
            "max_skipped": max_skipped,
        },
        "events": {
            "kinds": split_list(events),
            "transitions": transitions,
            "steps": steps,
            "change_area": change_area,
            "negatives": negatives,
        },
        "synthesis": {
            "model": model,
            "vae": vae,
            "scheduler": scheduler,
            "inference_steps": inference_steps,
            "start": start,
            "strength": strength,
            "guidance_ratio": guidance_ratio,
            "guidance_scale": guidance_scale,
            "extent": extent,
            "unchanged": unchanged,
        },
        "output": {"path": str(output) if output else None, "format": format, "overwrite": overwrite},
        "run": {"batch_size": batch_size, "device": device, "dtype": dtype, "threads": threads},
    }
    # What was not given is left out, so that the recipe's default holds.
    values: dict[str, Any] = {
        name: {key: value for key, value in section.items() if value is not None} for name, section in sections.items()
    }
    values |= {
        key: value for key, value in (("seed", seed), ("variants", variants), ("limit", limit)) if value is not None
    }
    recipe = build_recipe(values)
    if dry_run:
        _estimate(recipe, quiet=quiet, as_json=as_json)
        return

    from changen_cli.workflows.generate import generate as run

    with make_progress(quiet=quiet) as progress:
        made = run(recipe, progress)
    if as_json:
        result_json(
            {
                "output": str(made.output),
                "preview": str(made.preview),
                "samples": made.samples,
                "scenes": made.scenes,
                "skipped": len(made.skipped),
                "failed": made.failed,
                "seconds": round(made.seconds, 1),
                **made.statistics,
            }
        )
        return
    figures = made.statistics
    if not quiet:
        kinds = ", ".join(f"{count} {kind}" for kind, count in figures["events"].items()) or "no events"
        say(
            f"{made.samples} samples from {made.scenes} scenes in {duration(made.seconds)}: {kinds}, "
            f"{figures['changed_share_mean']:.1%} of the pixels change per step, "
            f"asked area met in {figures['steps_with_asked_area']} of {figures['steps']} steps"
        )
        if made.skipped:
            say(f"{len(made.skipped)} scenes skipped, {made.failed} of them broken; the manifest lists the reasons")
        say(f"Look at {made.preview}")
    result(str(made.output))


def _estimate(recipe: Any, *, quiet: bool, as_json: bool) -> None:
    """Print what a run would make."""
    from changen_cli.workflows.estimate import estimate

    with make_progress(quiet=quiet) as progress:
        plan = estimate(recipe, progress)
    if as_json:
        result_json(plan.as_dict())
        return
    result(
        f"{plan.images} images would give about {plan.samples} samples of {plan.dates} dates in {plan.output}\n"
        f"about {duration(plan.seconds)} on {plan.device} "
        f"({plan.windows_per_date:.0f} windows a date, {plan.seconds_per_megapixel:.2f} s per megapixel denoised)\n"
        f"about {plan.bytes / 1e9:.2f} GB on disk"
    )
