"""``changen transitions``: list the presets, show a matrix, learn one from pairs of real masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from changen_cli.cli.common import make_progress, result, result_json, say, split_list

if TYPE_CHECKING:
    from changen_cli.core.transitions import TransitionTable

app = typer.Typer(
    no_args_is_help=True,
    help="Which land cover becomes which: list the presets, show a matrix, learn one from pairs of real masks.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print as one JSON object.")]


@app.command("list")
def list_transitions(as_json: AsJson = False) -> None:
    """List the matrices that come with changen; generate takes their names as --transitions."""
    from changen_cli.core.transitions import load_transitions, preset_names

    tables = [load_transitions(name) for name in preset_names()]
    if as_json:
        result_json({"transitions": [{"name": table.name, "description": table.description} for table in tables]})
        return
    width = max(len(table.name) for table in tables)
    for table in tables:
        result(f"{table.name:<{width}}  {table.description}")


@app.command("show")
def show(
    transitions: Annotated[str, typer.Argument(help="A preset's name, or a YAML file.")],
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the file as it is: a start for a matrix of one's own.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a matrix: what of every class becomes which other in one step, in per cent, and what stays.

    Example: changen transitions show flood --yaml > my-flood.yaml
    """
    from changen_cli.core.transitions import load_transitions, transitions_path

    table = load_transitions(transitions)
    if as_json:
        result_json(table.model_dump(mode="json"))
    elif as_yaml:
        result(transitions_path(transitions).read_text(encoding="utf-8").rstrip())
    else:
        _print(table)


def _print(table: TransitionTable) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    targets = list(dict.fromkeys([*table.rates, *(target for row in table.rates.values() for target in row)]))
    grid = Table(box=box.SIMPLE)
    grid.add_column("%, from \\ to", no_wrap=True)
    for name in (*targets, "stays"):
        grid.add_column(name, justify="right", no_wrap=True)
    for source, row in table.rates.items():
        cells = [f"{100 * row[target]:.3g}" if row.get(target) else "·" for target in targets]
        grid.add_row(source, *cells, f"{100 * (1 - sum(row.values())):.3g}")
    # As wide as it takes: a pipe has no width, and half a name is none.
    console = Console(width=40 + sum(len(name) + 8 for name in targets), highlight=False, markup=False)
    result(f"{table.name}: {table.description}" if table.description else table.name)
    if table.rates:
        console.print(grid)
    for line in _settings(table):
        result(line)


def _settings(table: TransitionTable) -> list[str]:
    """What a matrix says beside its rates, one line each."""
    lines = []
    for move in table.moves:
        way = f"retreats to {move.retreat_to}" if move.retreat_to else f"advances over {', '.join(move.over)}"
        low, high = move.distance_m
        lines.append(f"edge of {move.class_name} {way} by {low:g}-{high:g} m: {move.share:.0%} of a step")
    lines.append(f"{table.growth:.0%} of the parts begin beside their new class")
    for sizes, unit in ((table.sizes_px, "px"), (table.sizes_m2, "m²")):
        if sizes:
            lines.append(f"parts of {sizes.median:g} {unit}, two thirds within a factor of {sizes.spread:g}")
    if table.change_area:
        low, high = table.change_area
        lines.append(f"{low:.2%} to {high:.2%} of a tile change per step")
    if table.boost:
        lines.append(f"rare classes are boosted by {table.boost:g}")
    return lines


@app.command("fit")
def fit(
    pairs: Annotated[Path, typer.Option("--pairs", "-p", help="Folder of pairs of semantic masks of two dates.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="YAML file for generate's --transitions. \\[default: printed]"),
    ] = None,
    layout: Annotated[
        Literal["auto", "second", "torchange", "changen", "masks"],
        typer.Option(
            "--layout",
            help=(
                "second: label1/ beside label2/, in SECOND's colours or 0 to 6; torchange: Parquet with t1_mask and "
                "t2_mask; masks: t1_masks/ beside t2_masks/; changen: a dataset made by changen."
            ),
        ),
    ] = "auto",
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help=(
                "Class names in id order, e.g. unknown,bareland,rangeland; a name given twice is one class. SECOND: "
                "of water, ground, low vegetation, tree, building, sports field. \\[default: the set's own]"
            ),
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option("--gsd", min=1e-3, help="Metres per pixel; sizes are then written in square metres."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many pairs.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn from a real change set which class becomes which, how large changes are and how much changes.

    Writes a YAML file that generate takes as --transitions; its comments say what it was learned from. Pixels of 255,
    and of classes named unknown, are left out. Pairs that cannot be read are named and left out too.

    Example: changen transitions fit --pairs ./SECOND --output second.yaml
    """
    from changen_cli.workflows.transition_fit import fit_transitions

    with make_progress(quiet=quiet, items="pairs", made="regions") as progress:
        found = fit_transitions(
            pairs,
            layout=None if layout == "auto" else layout,
            classes=split_list(classes),
            gsd_m=gsd,
            limit=limit,
            output=output,
            overwrite=overwrite,
            progress=progress,
        )
    if not quiet:
        say(
            f"{found.pairs} pairs, {found.regions} change regions, {found.changed_share:.2%} of the pixels change; "
            f"{len(found.skipped)} pairs skipped"
        )
    if as_json:
        counts = {"pairs": found.pairs, "skipped": len(found.skipped), "regions": found.regions}
        result_json({"output": output and str(output), **counts, **found.table.model_dump(mode="json")})
    else:
        result(found.text.rstrip() if output is None else str(output))
