"""``changen export``: other people's layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from changen_cli.cli.common import make_progress, result, result_json, say
from changen_cli.core.errors import UsageError
from changen_cli.exports.formats import FORMATS, PairMode, parse_mapping
from changen_cli.exports.splits import parse_shares

_FORMATS = "\n\n".join(f"[bold]{name}[/bold]: {form.summary}" for name, form in FORMATS.items())


def export(
    dataset: Annotated[Path, typer.Argument(metavar="OUT", help="A dataset made by changen.")],
    layout: Annotated[str, typer.Option("--as", metavar="LAYOUT", help="The layout to write; see below.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    pairs: Annotated[
        str,
        typer.Option(help="Pairs of a longer series, in layouts of pairs: consecutive, all or first-last."),
    ] = "consecutive",
    split: Annotated[
        str | None,
        typer.Option(
            help="Shares of train, val and test, e.g. 0.8,0.1,0.1, drawn by place: a place is in one split only. "
            "\\[default: all in train]"
        ),
    ] = None,
    class_map: Annotated[
        str | None,
        typer.Option(
            "--map",
            help="Classes of the dataset in a layout with classes of its own (second), e.g. road=ground,land=ground.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a dataset in the layout another reader expects; the dataset itself stays as it is."""
    if pairs not in get_args(PairMode):
        raise UsageError(f"--pairs {pairs} is not known", f"Known: {', '.join(get_args(PairMode))}")
    mode: PairMode = pairs  # type: ignore[assignment]
    shares = None if split is None else parse_shares(split)
    mapping = None if class_map is None else parse_mapping(class_map)

    from changen_cli.workflows.export import export as run

    try:
        with make_progress(quiet=quiet, items="samples", made="items") as progress:
            report = run(
                dataset,
                output,
                layout=layout,
                pairs=mode,
                shares=shares,
                mapping=mapping,
                overwrite=overwrite,
                progress=progress,
            )
    except KeyboardInterrupt:
        say("Interrupted: nothing was written.")
        raise typer.Exit(130) from None
    if as_json:
        made = {"output": str(output), "layout": layout, "samples": report.samples}
        result_json(made | {"items": dict(report.items), "places": dict(report.places), "notes": report.notes})
        return
    if not quiet:
        item = FORMATS[layout].item
        for name, count in sorted(report.items.items()):
            plural = item if item == "series" or count == 1 else f"{item}s"
            say(f"{name}: {count} {plural} of {report.places[name]} place(s)")
        for note in report.notes:
            say(note)
    result(str(output))


export.__doc__ = f"{export.__doc__}\n\nLayouts:\n\n{_FORMATS}\n\nExample: changen export ./out --as levir-cd -o ./levir"
