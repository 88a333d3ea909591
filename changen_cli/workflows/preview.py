"""Alternative futures of one scene on one sheet: settings are chosen by looking, before anything slow is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changen_cli.core.errors import UsageError
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import StepReport, TimeSeries
from changen_cli.workflows.inputs import source_root, with_unpacked_input
from changen_cli.workflows.plans import as_sample, event_kinds, gather, known_objects, open_labelled_source, simulate
from changen_cli.workflows.progress import Progress, Silent

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source


@dataclass(frozen=True, eq=False)
class Preview:
    """What a preview shows.

    Attributes:
        sheet: The picture.
        scene_id: The scene.
        futures: Its series, masks only.
    """

    sheet: Path
    scene_id: str
    futures: tuple[TimeSeries, ...]

    @property
    def reports(self) -> list[StepReport]:
        """The reports of all steps of all futures."""
        return [report for future in self.futures for report in future.reports]


@with_unpacked_input
def preview(
    recipe: Recipe, sheet: Path | None = None, *, scene_id: str = "", progress: Progress | None = None
) -> Preview:
    """Draw alternative futures of one scene: the masks of its first ``recipe.variants`` samples.

    They are those :func:`~changen_cli.workflows.simulate.simulate_dataset` makes of that scene with the same recipe,
    where its input is the same folder. Read are the scene and the first ones of the folder, which exemplars are taken
    from.

    Args:
        recipe: What to simulate. Its input may also be one image of a folder, or one mask.
        sheet: Where to draw, a PNG; ``<scene>-futures.png`` in the current folder if not given.
        scene_id: Which scene of the folder; the first one if not given.
        progress: Who wants to know what is read.

    Raises:
        UsageError: When there is no such scene, it cannot be used, or the sheet would lie among the images.
        OutputError: When the sheet cannot be written.
    """
    from changen_cli.sources.locate import find_scene, input_folder
    from changen_cli.writers.futures_sheet import futures_sheet

    progress = progress or Silent()
    given = source_root(recipe)
    root = input_folder(given)
    recipe = recipe.model_copy(update={"source": recipe.source.model_copy(update={"input": str(root)})})
    source = open_labelled_source(recipe)
    progress.note(f"{root}: {source.describe()}")
    scene = find_scene(source, None if root == given else given, scene_id)
    sheet = sheet or Path(f"{scene.id}-futures.png")
    _check_sheet(sheet, source)
    library, textures = gather(recipe, source)
    library = known_objects(scene, source.schema, recipe, library)
    futures = tuple(
        as_sample(simulate(scene, source.schema, recipe, variant, library, textures), recipe)
        for variant in range(recipe.variants)
    )
    title = f"{scene.id}: {len(futures)} alternative futures"
    futures_sheet(futures, source.schema, sheet, title=title, subtitle=_asked(recipe, source))
    return Preview(sheet, scene.id, futures)


def _asked(recipe: Recipe, source: Source) -> str:
    """The settings that made the futures, in one line."""
    events = recipe.events
    low, high = (f"{100 * share:g}" for share in events.change_area)
    kinds = ", ".join(event_kinds(recipe, source.schema))
    parts = [f"events {kinds}", f"change area {low if low == high else f'{low}-{high}'} % per step"]
    if events.transitions is not None:
        parts.append(f"transitions {events.transitions.name}")
    if events.disaster is not None:
        parts.append(f"disaster {events.disaster}, rebuild {100 * events.rebuild:g} %")
    if events.rates is not None:
        parts.append("a year " + ", ".join(f"{kind} {100 * rate:g} %" for kind, rate in events.rates.items()))
    parts.append(f"dates {', '.join(events.dates)}" if events.dates else f"steps {events.steps}")
    return "   |   ".join([*parts, f"seed {recipe.seed}"])


def _check_sheet(sheet: Path, source: Source) -> None:
    """Refuse what is no PNG, and places where the next run would take the sheet for an image."""
    from changen_cli.sources.walk import is_image_folder, is_mask_folder

    if sheet.suffix.lower() != ".png":
        raise UsageError(f"--output {sheet} is no PNG", "Let its name end in .png")
    place, root = sheet.resolve(), source.root.resolve()
    if not place.is_relative_to(root):
        return
    folders = place.relative_to(root).parts[:-1]
    if source.layout == "images" or any(is_image_folder(part) or is_mask_folder(part) for part in folders):
        raise UsageError(
            f"{sheet} would lie in the input folder, where the next run would take it for an image",
            "Give another --output",
        )
