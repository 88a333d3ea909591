"""``changen preview``: alternative futures of one scene, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from changen_cli.cli import options
from changen_cli.cli.common import PlainProgress, QuietProgress, result, result_json, say


def preview(
    scene: Annotated[Path, typer.Argument(help="An image or a mask of a folder, or the folder.")],
    scene_id: Annotated[
        str,
        typer.Option("--scene", help="Id of a scene of the folder. \\[default: its first]", rich_help_panel="Source"),
    ] = "",
    count: Annotated[
        int, typer.Option("--count", min=1, max=100, help="Futures to draw.", rich_help_panel="Events")
    ] = 10,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The picture, a PNG. \\[default: SCENE-futures.png here]", rich_help_panel="Output"
        ),
    ] = None,
    steps: options.Steps = None,
    dates: options.Dates = None,
    res: options.Res = None,
    layout: options.Layout = None,
    classes: options.Classes = None,
    bands: options.Bands = None,
    upsample: options.Upsample = None,
    proposals: options.Proposals = None,
    sam_model: options.SamModel = None,
    events: options.Events = None,
    transitions: options.Transitions = None,
    disaster: options.Disaster = None,
    rebuild: options.Rebuild = None,
    change_area: options.ChangeArea = None,
    rates: options.Rates = None,
    surfaces: options.Surfaces = None,
    seed: options.Seed = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Draw alternative futures of one scene as masks, on one sheet: look at it to choose the options of generate.

    Example: changen preview ./xview2 --change-area 5-10% --count 10
    """
    recipe = options.make_recipe(locals() | {"input": scene, "variants": count})

    from changen_cli.workflows.preview import preview as draw

    with QuietProgress() if quiet else PlainProgress() as progress:
        drawn = draw(recipe, sheet, scene_id=scene_id, progress=progress)
    met, steps_drawn = sum(report.met for report in drawn.reports), len(drawn.reports)
    if as_json:
        result_json(
            {
                "sheet": str(drawn.sheet),
                "scene": drawn.scene_id,
                "futures": len(drawn.futures),
                "steps": steps_drawn,
                "steps_with_asked_area": met,
            }
        )
        return
    if not quiet:
        say(f"{len(drawn.futures)} futures of {drawn.scene_id}, asked area met in {met} of {steps_drawn} steps")
    result(str(drawn.sheet))
