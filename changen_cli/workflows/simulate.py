"""Masks only: the change series of a run without its images, for users who pair them with their own."""

from __future__ import annotations

from changen_cli.core.recipe import Recipe
from changen_cli.workflows.inputs import with_unpacked_input
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.results import RunResult
from changen_cli.workflows.run import Run


@with_unpacked_input
def simulate_dataset(recipe: Recipe, progress: Progress | None = None) -> RunResult:
    """Make the masks, change masks and event logs of a dataset as the recipe says, and no images.

    They are those of :func:`~changen_cli.workflows.generate.generate` with the same recipe, byte for byte, but for
    three things: masks can show every state of damage, whatever a model can draw; no image is displaced, so that no
    rims are unknown; and no sample is rejected for its image, so that all are first attempts. What the recipe says
    about synthesis plays no part, but for ``start``: from pure noise transitions may lead to any class.

    Args:
        recipe: What to make.
        progress: Who wants to know how far it is.

    Returns:
        What was made, and what was not.

    Raises:
        UsageError: When the input cannot be used as asked; nothing is written.
        OutputError: When the output folder may not be written to; nothing is touched.
        LockedError: When another run writes to it.
        IncompleteError: When no sample could be made, and nothing is left behind; or when more scenes failed than
            allowed, and what was made is kept.
        KeyboardInterrupt: After closing what was finished; the manifest then says ``interrupted``.
    """
    recipe = recipe.model_copy(update={"gate": recipe.gate.model_copy(update={"enabled": False})})
    with Run(recipe, progress or Silent(), images=False) as run:
        return run.go()
