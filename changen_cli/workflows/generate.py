"""The main job: image time series, drawn date by date on the masks of simulated change."""

from __future__ import annotations

from changen_cli.core.recipe import Recipe
from changen_cli.workflows.inputs import with_unpacked_input
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.results import RunResult
from changen_cli.workflows.run import Run


@with_unpacked_input
def generate(recipe: Recipe, progress: Progress | None = None) -> RunResult:
    """Make a dataset as the recipe says.

    Args:
        recipe: What to make.
        progress: Who wants to know how far it is.

    Returns:
        What was made, and what was not.

    Raises:
        UsageError: When the input cannot be used as asked; nothing is written.
        OutputError: When the output folder may not be written to; nothing is touched.
        LockedError: When another run writes to it.
        ModelError: When the model cannot be loaded; nothing is written.
        IncompleteError: When no sample could be made, and nothing is left behind; or when more scenes failed than
            allowed, and what was made is kept.
        KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
    """
    with Run(recipe, progress or Silent(), images=True) as run:
        return run.go()
