"""``changen generate``: parse, build the recipe, run, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from changen_cli.cli import options
from changen_cli.cli.common import duration, make_progress, result, result_json, say

if TYPE_CHECKING:
    from changen_cli.core.recipe import Recipe
    from changen_cli.workflows.results import RunResult


def generate(
    input: options.Input,
    output: options.Output = None,
    steps: options.Steps = None,
    dates: options.Dates = None,
    res: options.Res = None,
    layout: options.Layout = None,
    classes: options.Classes = None,
    bands: options.Bands = None,
    upsample: options.Upsample = None,
    limit: options.Limit = None,
    proposals: options.Proposals = None,
    sam_model: options.SamModel = None,
    max_skipped: options.MaxSkipped = None,
    source_license: options.SourceLicense = None,
    events: options.Events = None,
    transitions: options.Transitions = None,
    disaster: options.Disaster = None,
    rebuild: options.Rebuild = None,
    change_area: options.ChangeArea = None,
    rates: options.Rates = None,
    surfaces: options.Surfaces = None,
    negatives: options.Negatives = None,
    variants: options.Variants = None,
    seed: options.Seed = None,
    model: options.Model = None,
    vae: options.Vae = None,
    scheduler: options.Scheduler = None,
    inference_steps: options.InferenceSteps = None,
    start: options.Start = None,
    strength: options.Strength = None,
    guidance_ratio: options.GuidanceRatio = None,
    guidance_scale: options.GuidanceScale = None,
    extent: options.Extent = None,
    nuisance: options.Nuisance = None,
    keep_date0: options.KeepDate0 = None,
    gate: options.Gate = None,
    retries: options.Retries = None,
    batch_size: options.BatchSize = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    workers: options.Workers = None,
    executor: options.Executor = None,
    ray_address: options.RayAddress = None,
    gpus_per_worker: options.GpusPerWorker = None,
    rank: options.Rank = None,
    world_size: options.WorldSize = None,
    shard_size: options.ShardSize = None,
    max_failed: options.MaxFailed = None,
    time_budget: options.TimeBudget = None,
    disk_budget: options.DiskBudget = None,
    format: options.Format = None,
    mode: options.Mode = None,
    overwrite: options.Overwrite = False,
    push: options.Push = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make image time series with exact change labels from a folder of single-date images.

    Example: changen generate --input ./xview2 --steps 3 --res 1024
    """
    make(options.make_recipe(locals()), dry_run=dry_run, quiet=quiet, as_json=as_json)


def make(recipe: Recipe, *, dry_run: bool, quiet: bool, as_json: bool) -> None:
    """Make what a recipe says, or say what that would be, and print it."""
    if dry_run:
        _estimate(recipe, quiet=quiet, as_json=as_json)
        return

    from changen_cli.workflows.generate import generate as run

    with make_progress(quiet=quiet) as progress:
        made = run(recipe, progress)
    tell(made, quiet=quiet, as_json=as_json)


def tell(made: RunResult, *, quiet: bool, as_json: bool) -> None:
    """Print what a run made."""
    if as_json:
        result_json(
            {
                "output": str(made.output),
                "preview": str(made.preview),
                "samples": made.samples,
                "scenes": made.scenes,
                "skipped": len(made.skipped),
                "failed": made.failed,
                "failed_samples": len(made.failed_samples),
                "rejected_samples": sum(made.rejected.values()),
                "seconds": round(made.seconds, 1),
                "nothing_to_do": made.nothing_to_do,
                "pushed": made.pushed,
                **made.statistics,
            }
        )
        return
    figures = made.statistics
    if made.share:
        if not quiet:
            say(f"{made.share} is done; {made.samples} samples are there. The last rank completes the dataset")
        result(str(made.output))
        return
    if made.nothing_to_do and not quiet:
        say(f"Nothing to do: {made.samples} samples are there. --mode extend adds new images, overwrite starts over")
    elif not quiet:
        kinds = ", ".join(f"{count} {kind}" for kind, count in figures["events"].items()) or "no events"
        say(
            f"{made.samples} samples from {made.scenes} scenes in {duration(made.seconds)}: {kinds}, "
            f"{figures['changed_share_mean']:.1%} of the pixels change per step, "
            f"asked area met in {figures['steps_with_asked_area']} of {figures['steps']} steps"
        )
        if made.rejected:
            say(_rejected(made))
        if made.skipped:
            say(f"{len(made.skipped)} scenes skipped, {made.failed} of them broken; the manifest lists the reasons")
        say(f"Look at {made.preview or f'{made.output}/preview.png'}")
    if made.pushed and not quiet:
        say(f"On the Hub: {made.pushed}")
    result(str(made.output))


def _rejected(made: RunResult) -> str:
    """What the quality gate dropped, and what to do where that is much."""
    from changen_cli.workflows.ledger import rejected_line

    line = rejected_line(made.rejected, made.samples)
    much = sum(made.rejected.values()) > 0.2 * (made.samples + sum(made.rejected.values()))
    look = f"; look at {made.output}/rejected" if Path(str(made.output), "rejected").is_dir() else ""
    return f"{line}{look}{'; that is much: docs/gate.md says what to do' if much else ''}"


def _estimate(recipe: Recipe, *, quiet: bool, as_json: bool) -> None:
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
