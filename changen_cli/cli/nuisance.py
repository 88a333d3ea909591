"""``changen nuisance``: show how much dates differ where nothing changed, or learn it from real images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changen_cli.cli.common import make_progress, result, result_json, say

if TYPE_CHECKING:
    from changen_cli.core.nuisance import NuisanceTable

app = typer.Typer(
    no_args_is_help=True,
    help="Variation without change: show the strengths of a preset, learn them from real images of the same places.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print as one JSON object.")]


@app.command("show")
def show(
    nuisance: Annotated[
        str | None, typer.Argument(help="A preset's name, or a YAML file. \\[default: all presets]")
    ] = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the file as it is: a start for strengths of one's own.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show strengths: what a date is drawn, and by how much.

    Example: changen nuisance show realistic --yaml > my-sensor.yaml
    """
    from changen_cli.core.errors import UsageError
    from changen_cli.core.nuisance import PRESETS, load_nuisance, nuisance_path

    if as_yaml:
        if nuisance is None:
            raise UsageError("--yaml prints one file", f"Name one: {', '.join(PRESETS)}")
        load_nuisance(nuisance)
        result(nuisance_path(nuisance).read_text(encoding="utf-8").rstrip())
        return
    tables = [load_nuisance(name) for name in ([nuisance] if nuisance else PRESETS)]
    if as_json:
        result_json({"nuisance": [table.model_dump(mode="json") for table in tables]})
    else:
        _print(tables)


def _print(tables: list[NuisanceTable]) -> None:
    from changen_cli.core.nuisance import NuisanceTable

    for table in tables:
        result(f"{table.name}: {table.description}")
    keys = [key for key in NuisanceTable.model_fields if key not in ("name", "description")]
    cells = {key: [_cell(getattr(table, key)) for table in tables] for key in keys}
    result("\n" + " " * 16 + "".join(f"{table.name:>14}" for table in tables))
    for key in keys:
        result(f"{key:<16}" + "".join(f"{cell:>14}" for cell in cells[key]))


def _cell(value: float | tuple[float, float]) -> str:
    return f"{value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else f"{value:g}" if value else "·"


@app.command("fit")
def fit(
    pairs: Annotated[
        list[Path],
        typer.Option(
            "--pairs",
            "-p",
            help=(
                "Folder of images of the same places: one name in a folder per date, or names that differ by a year. "
                "May be given several times."
            ),
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="YAML file for generate's --nuisance. \\[default: printed]"),
    ] = None,
    gsd: Annotated[float | None, typer.Option("--gsd", min=1e-3, help="Metres per pixel. \\[default: 0.5]")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many pairs.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn from real images of the same places how much they differ where nothing changed.

    Measured are colour, haze, season, shadows, misregistration, blur and noise, on what stayed as it was. Writes a YAML
    file that generate takes as --nuisance; its comments say what was learned and what was not.

    Example: changen nuisance fit --pairs ./naip --gsd 0.6 --output naip.yaml
    """
    from changen_cli.workflows.nuisance_fit import fit_nuisance

    with make_progress(quiet=quiet, items="pairs", made="measured") as progress:
        found = fit_nuisance(pairs, gsd_m=gsd, limit=limit, output=output, overwrite=overwrite, progress=progress)
    if not quiet:
        say(f"{found.pairs} pairs; {found.unlike} have hardly anything in common, {len(found.skipped)} skipped")
    if as_json:
        counts = {"pairs": found.pairs, "unlike": found.unlike, "skipped": len(found.skipped)}
        result_json({"output": output and str(output), **counts, **found.table.model_dump(mode="json")})
    else:
        result(found.text.rstrip() if output is None else str(output))
