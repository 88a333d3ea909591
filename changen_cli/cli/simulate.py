"""``changen simulate``: masks only."""

from __future__ import annotations

from changen_cli.cli import options
from changen_cli.cli.common import make_progress
from changen_cli.cli.generate import tell


def simulate(
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
    workers: options.Workers = None,
    executor: options.Executor = None,
    ray_address: options.RayAddress = None,
    rank: options.Rank = None,
    world_size: options.WorldSize = None,
    shard_size: options.ShardSize = None,
    max_failed: options.MaxFailed = None,
    time_budget: options.TimeBudget = None,
    disk_budget: options.DiskBudget = None,
    format: options.Format = None,
    mode: options.Mode = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make masks, change masks and event logs only: those generate would make, without images and in little time.

    Example: changen simulate --input ./xview2 --steps 3 --res 1024 --output ./masks
    """
    recipe = options.make_recipe(locals())

    from changen_cli.workflows.simulate import simulate_dataset

    with make_progress(quiet=quiet) as progress:
        made = simulate_dataset(recipe, progress)
    tell(made, quiet=quiet, as_json=as_json)
