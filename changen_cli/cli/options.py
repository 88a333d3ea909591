"""Options of commands, each declared once with the recipe's key it sets.

A command names those it takes as parameters, all with default None: what is not given is left to the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from changen_cli.core.recipe import Recipe

SOURCE, EVENTS, IMAGES, GATE, RUN, OUTPUT = "Source", "Events", "Images", "Quality gate", "Run", "Output"

KEYS = {
    "input": "source.input",
    "layout": "source.layout",
    "classes": "source.classes",
    "res": "source.res",
    "upsample": "source.upsample",
    "bands": "source.bands",
    "proposals": "source.proposals",
    "sam_model": "source.sam_model",
    "max_skipped": "source.max_skipped",
    "source_license": "source.license",
    "limit": "limit",
    "events": "events.kinds",
    "transitions": "events.transitions",
    "disaster": "events.disaster",
    "rebuild": "events.rebuild",
    "steps": "events.steps",
    "dates": "events.dates",
    "change_area": "events.change_area",
    "rates": "events.rates",
    "surfaces": "events.surfaces",
    "negatives": "events.negatives",
    "variants": "variants",
    "seed": "seed",
    "model": "synthesis.model",
    "vae": "synthesis.vae",
    "scheduler": "synthesis.scheduler",
    "inference_steps": "synthesis.inference_steps",
    "start": "synthesis.start",
    "strength": "synthesis.strength",
    "guidance_ratio": "synthesis.guidance_ratio",
    "guidance_scale": "synthesis.guidance_scale",
    "extent": "synthesis.extent",
    "nuisance": "synthesis.nuisance",
    "keep_date0": "synthesis.keep_date0",
    "gate": "gate.enabled",
    "retries": "gate.retries",
    "batch_size": "run.batch_size",
    "device": "run.device",
    "dtype": "run.dtype",
    "threads": "run.threads",
    "workers": "run.workers",
    "executor": "run.executor",
    "ray_address": "run.ray_address",
    "gpus_per_worker": "run.gpus_per_worker",
    "rank": "run.rank",
    "world_size": "run.world_size",
    "shard_size": "run.shard_size",
    "max_failed": "run.max_failed",
    "time_budget": "run.time_budget",
    "disk_budget": "run.disk_budget",
    "output": "output.path",
    "format": "output.format",
    "mode": "output.mode",
    "push": "output.push",
}
"""Parameter of a command → key of the recipe."""


def make_recipe(given: Mapping[str, Any]) -> Recipe:
    """Make the recipe a command was given.

    Args:
        given: The command's parameters, its ``locals()``; names that are not in :data:`KEYS` are its own.

    Raises:
        UsageError: Naming the option, what is wrong with it and the value given.
    """
    from changen_cli.core.recipe import build_recipe

    values: dict[str, Any] = {}
    for name, key in KEYS.items():
        value = given.get(name)
        if value is None:
            continue
        section, _, field = key.rpartition(".")
        holder = values.setdefault(section, {}) if section else values
        holder[field] = str(value) if isinstance(value, Path) else value
    if given.get("overwrite"):
        values.setdefault("output", {})["mode"] = "overwrite"
    return build_recipe(values)


def _option(*names: str, help: str, panel: str, default: str | None = None) -> Any:
    """An option that is left to the recipe's default unless given; ``default`` is only shown."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=default or False)


Input = Annotated[
    Path,
    _option(
        "--input",
        "-i",
        help="Folder of images: xBD/xView2 tree, or images/ beside masks/, or images alone; or an archive of one.",
        panel=SOURCE,
    ),
]
Layout = Annotated[
    Literal["xbd", "pairs", "images"] | None,
    _option("--layout", help="Folder layout. \\[default: detected]", panel=SOURCE),
]
Classes = Annotated[
    str | None,
    _option("--classes", help="Class names of the masks in id order, e.g. background,building,road.", panel=SOURCE),
]
Res = Annotated[
    int | None,
    _option("--res", help="Tile size in px; larger scenes are tiled. \\[default: whole, up to 1024]", panel=SOURCE),
]
Upsample = Annotated[
    bool | None, _option("--upsample", help="Enlarge scenes smaller than --res instead of skipping.", panel=SOURCE)
]
Bands = Annotated[
    str | None,
    _option("--bands", help="Bands for red,green,blue from 1, e.g. 4,3,2. \\[default: by colour tag]", panel=SOURCE),
]
Proposals = Annotated[
    Literal["auto", "regions", "sam", "none"] | None,
    _option(
        "--proposals",
        help="How objects are found in images without masks; auto is regions, none refuses them.",
        panel=SOURCE,
        default="auto",
    ),
]
SamModel = Annotated[
    str | None,
    _option(
        "--sam-model",
        help="Segment Anything model of --proposals sam: path or Hub id.",
        panel=SOURCE,
        default="facebook/sam-vit-base",
    ),
]
MaxSkipped = Annotated[
    str | None,
    _option("--max-skipped", help="Share of broken scenes that is still a success.", panel=SOURCE, default="20%"),
]
SourceLicense = Annotated[
    str | None,
    _option(
        "--source-license",
        help=(
            "Licence of the images and labels for the dataset card, e.g. cc-by-4.0, or both: cc-by-4.0,odbl. "
            "\\[default: as changen-source.yaml in the folder says, else unknown]"
        ),
        panel=SOURCE,
    ),
]
Limit = Annotated[
    int | None, _option("--limit", help="Stop after this many scenes; a tile counts as one.", panel=SOURCE)
]

Events = Annotated[
    str | None,
    _option(
        "--events",
        help=(
            "Kinds of events: create and remove buildings; swap, buildings that move; grow, rows of new ones built in "
            "stages; damage, buildings hit by a disaster; transition, land cover that becomes another. "
            "\\[default: create,remove; without masks remove]"
        ),
        panel=EVENTS,
    ),
]
Transitions = Annotated[
    str | None,
    _option(
        "--transitions",
        help=(
            "Which class becomes which, and how often: openearthmap, urbanisation, deforestation, flood, "
            "published-s9, or a YAML file such as rates: {tree: {bareland: 0.1}}. \\[default: openearthmap]"
        ),
        panel=EVENTS,
    ),
]
Steps = Annotated[
    int | None, _option("--steps", help="Steps of change; a series has one date more.", panel=EVENTS, default="1")
]
Disaster = Annotated[
    Literal["wind", "flood", "fire", "earthquake"] | None,
    _option("--disaster", help="What damages buildings. \\[default: wind]", panel=EVENTS),
]
Rebuild = Annotated[
    str | None,
    _option("--rebuild", help="Share of the damaged buildings rebuilt per step.", panel=EVENTS, default="0%"),
]
Dates = Annotated[
    str | None,
    _option(
        "--dates",
        help="Calendar dates of a series, ascending, e.g. 2018-01,2020-06,2023-01; they set --steps.",
        panel=EVENTS,
    ),
]
Surfaces = Annotated[
    str | None,
    _option(
        "--surfaces",
        help="Classes buildings may be built on, e.g. land,grass. \\[default: all but buildings, roads and water]",
        panel=EVENTS,
    ),
]
Rates = Annotated[
    str | None,
    _option(
        "--rates",
        help="Births and deaths per building and year, not by area: create=2%,remove=1%. Needs --dates.",
        panel=EVENTS,
    ),
]
ChangeArea = Annotated[
    str | None, _option("--change-area", help="Share of pixels that change per step.", panel=EVENTS, default="2-10%")
]
Negatives = Annotated[
    str | None, _option("--negatives", help="Share of samples in which nothing changes.", panel=EVENTS, default="0%")
]
Variants = Annotated[int | None, _option("--variants", help="Samples per scene.", panel=EVENTS, default="1")]
Seed = Annotated[int | None, _option("--seed", help="Seed of everything random.", panel=EVENTS, default="0")]

Model = Annotated[
    str | None,
    _option("--model", "-m", help="Bundled model, path, or Hub id org/name.", panel=IMAGES, default="changen-mini"),
]
Vae = Annotated[
    str | None,
    _option("--vae", help="Autoencoder of a model of latents: path or Hub id. \\[default: its own]", panel=IMAGES),
]
Scheduler = Annotated[
    Literal["dpm++", "ddim", "iddpm"] | None, _option("--scheduler", help="Sampler.", panel=IMAGES, default="dpm++")
]
InferenceSteps = Annotated[
    int | None, _option("--inference-steps", help="Steps of the whole noise schedule.", panel=IMAGES, default="10")
]
Start = Annotated[
    Literal["exemplar", "noise"] | None,
    _option("--start", help="Start from real pixels, or from pure noise.", panel=IMAGES, default="exemplar"),
]
Strength = Annotated[
    float | None, _option("--strength", help="Noise put on an exemplar start, 0 to 1.", panel=IMAGES, default="0.1")
]
GuidanceRatio = Annotated[
    float | None,
    _option("--guidance-ratio", help="Share of steps that hold unchanged pixels.", panel=IMAGES, default="1.0"),
]
GuidanceScale = Annotated[
    float | None,
    _option("--guidance-scale", help="Classifier-free guidance; 1 leaves it out.", panel=IMAGES, default="1.0"),
]
Extent = Annotated[
    Literal["windows", "full"] | None,
    _option("--extent", help="Denoise windows around the change, or the full tile.", panel=IMAGES, default="windows"),
]
Nuisance = Annotated[
    str | None,
    _option(
        "--nuisance",
        help=(
            "How much every date differs where nothing changed: none, mild, realistic, hard, or a YAML file such as "
            "`changen nuisance fit` writes."
        ),
        panel=IMAGES,
        default="realistic",
    ),
]
KeepDate0 = Annotated[
    bool | None,
    _option("--keep-date0", help="Leave date 0 as it came; detectors can then tell the dates apart.", panel=IMAGES),
]

Gate = Annotated[
    bool | None,
    _option(
        "--gate/--no-gate",
        help="Look at every sample that is drawn, and draw bad ones again; limits are keys of the recipe.",
        panel=GATE,
        default="on",
    ),
]
Retries = Annotated[
    int | None,
    _option("--retries", help="How often a rejected sample is drawn again, by another seed.", panel=GATE, default="2"),
]

BatchSize = Annotated[
    int | None, _option("--batch-size", help="Scenes whose windows are pooled.", panel=RUN, default="4")
]
Device = Annotated[str | None, _option("--device", help="cpu, cuda, cuda:1, mps.", panel=RUN, default="auto")]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"] | None,
    _option("--dtype", help="Precision; auto is bfloat16 on CUDA.", panel=RUN, default="auto"),
]
Threads = Annotated[
    int | None, _option("--threads", help="CPU threads of the model. \\[default: cores - 1]", panel=RUN)
]

Workers = Annotated[
    int | None,
    _option(
        "--workers",
        help="Processes that simulate masks; with --executor ray, that make shards. "
        "\\[default: a thread; with ray, as many as there is room for]",
        panel=RUN,
    ),
]
Executor = Annotated[
    Literal["local", "ray"] | None,
    _option("--executor", help="Where shards are made: here, or on a Ray cluster.", panel=RUN, default="local"),
]
RayAddress = Annotated[
    str | None,
    _option("--ray-address", help="A running Ray cluster, or auto. \\[default: one of this machine]", panel=RUN),
]
GpusPerWorker = Annotated[
    float | None,
    _option("--gpus-per-worker", help="GPUs of a Ray worker. \\[default: 1 where there are some]", panel=RUN),
]
Rank = Annotated[
    int | None,
    _option("--rank", help="Which share of a job array this is. \\[default: Slurm's or torchrun's]", panel=RUN),
]
WorldSize = Annotated[
    int | None, _option("--world-size", help="Of how many shares. \\[default: Slurm's or torchrun's]", panel=RUN)
]
ShardSize = Annotated[
    int | None,
    _option("--shard-size", help="Images per shard: made, recorded and resumed as one.", panel=RUN, default="16"),
]
MaxFailed = Annotated[
    str | None,
    _option("--max-failed", help="Share of failed samples that is still a success.", panel=RUN, default="1%"),
]
TimeBudget = Annotated[
    str | None,
    _option("--time-budget", help="Stop in time at the end of a shard, e.g. 2h; the next run goes on.", panel=RUN),
]
DiskBudget = Annotated[
    str | None,
    _option("--disk-budget", help="Stop before the dataset is larger, e.g. 200GB.", panel=RUN),
]

Output = Annotated[
    str | None,
    _option("--output", "-o", help="Folder, or s3://bucket/name. \\[default: INPUT-changen]", panel=OUTPUT),
]
Format = Annotated[
    Literal["folder", "parquet"] | None,
    _option("--format", help="Image files, or Parquet shards.", panel=OUTPUT, default="folder"),
]
Mode = Annotated[
    Literal["resume", "extend", "overwrite", "fail"] | None,
    _option(
        "--mode",
        help=(
            "What to do with an earlier run in the output folder: resume it, extend it by new images or more variants, "
            "overwrite it, or fail."
        ),
        panel=OUTPUT,
        default="resume",
    ),
]
Push = Annotated[
    str | None,
    _option("--push", help="Push to the Hugging Face Hub at the end, org/name, as push-to-hub does.", panel=OUTPUT),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="The same as --mode overwrite.", rich_help_panel=OUTPUT)]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be made, how long and how large.", rich_help_panel=RUN)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.", rich_help_panel=OUTPUT)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel=OUTPUT)]
