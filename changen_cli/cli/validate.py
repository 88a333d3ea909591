"""``changen validate``: read a dataset again, print what is wrong with it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changen_cli.cli.common import make_progress, result_json, say
from changen_cli.exports.formats import FORMATS

if TYPE_CHECKING:
    from changen_cli.workflows.validate import Validation

_PIPE_WIDTH = 200  # files and reasons on one line each where nobody's terminal says how wide it is


def validate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset made by changen, or an export.")],
    layout: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="LAYOUT",
            help=f"Check by the rules of this layout's readers: changen, {', '.join(FORMATS)}. "
            "\\[default: what the folder says it is]",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Findings to print; the rest is counted.")] = 50,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the findings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as one JSON object.")] = False,
) -> None:
    """Read every file of a dataset again and print what is wrong with it, file by file; exit code 1 if anything is.

    Names, sizes, types, values, georeference, the change masks against the semantic masks, the events against the
    changed pixels, repeated samples, missing and extra files, counts and checksums.

    Example: changen validate ./out
    """
    from changen_cli.workflows.validate import validate as run

    with make_progress(quiet=quiet, items="items", made="read") as progress:
        found = run(folder, layout=layout, progress=progress)
    if as_json:
        result_json(asdict(found) | {"folder": str(folder)})
    else:
        _tell(folder, found, limit)
    if found.errors:
        raise typer.Exit(1)


def _tell(folder: Path, found: Validation, limit: int) -> None:
    """Print the findings as a table, and how many there are."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    total = found.errors + found.warnings
    if total:
        table = Table("", Column("file", overflow="fold"), "what is wrong", "what to do")
        for finding in found.findings[:limit]:
            cells = (finding.severity, finding.file, finding.message, finding.fix)
            table.add_row(*map(escape, cells), style="red" if finding.severity == "error" else "yellow")
        Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)
        if total > limit:
            say(
                f"{total - min(limit, len(found.findings))} more are not shown; see them with --limit {total} or --json"
            )
    say(f"{folder}, as {found.layout}: {_count(found.errors, 'error')}, {_count(found.warnings, 'warning')}")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
