"""Write ``docs/cli.md`` from the commands' own signatures.

Usage: python tools/cli_reference.py [--check]

``--check`` writes nothing and fails when the file is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pages import write_or_check
from typer.models import ArgumentInfo

from changen_cli.cli.app import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
TYPES = {int: "integer", float: "number", bool: "", Path: "path"}
HEAD = """\
# Command line

<!-- Written by tools/cli_reference.py. Change the help texts in changen_cli/cli, then run `make docs`. -->

Progress and messages go to standard error, results to standard output: `OUT=$(changen generate …)` holds the path of
the dataset. `--json` prints one JSON object instead. Progress is a bar on a terminal, lines elsewhere, and nothing with
`--quiet`. `CHANGEN_DEBUG=1` shows the traceback of an error.

| exit code | meaning |
| ---: | --- |
| 0 | done |
| 1 | the run failed: model, output folder; or `validate` found errors |
| 2 | the request cannot be carried out: option, input folder, device |
| 3 | too much failed, or something is left to do; what was made is kept; or `replay` gave other bytes |
| 4 | another run writes to the output folder |
| 130, 143 | interrupted (Ctrl-C, SIGTERM); what was finished is kept |
"""


def cell(text: str) -> str:
    """One line, safe in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def prose(text: str) -> str:
    """A help text as Markdown: paragraphs that begin in bold become a list, examples code."""
    parts = [re.sub(r"^\[bold\](.+?)\[/bold\]", r"- `\1`", part) for part in text.replace("<", "&lt;").split("\n\n")]
    text = "\n\n".join(parts).replace("\n\n- ", "\n- ").replace("\n- ", "\n\n- ", 1)
    return re.sub(r"^Example: (.+)$", r"Example: `\1`", text, flags=re.MULTILINE)


def takes(hint: Any) -> str:
    """What an option takes: nothing (a flag), one of several words, or a kind of value."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is list:
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return " ".join(f"`{choice}`" for choice in get_args(hint))
    return TYPES.get(hint, "text")


def shown_default(parameter: inspect.Parameter, info: Any) -> str:
    """The default; where the recipe holds it, the text that stands in for it."""
    if isinstance(info.show_default, str):
        return f"`{info.show_default}`"
    if parameter.default is inspect.Parameter.empty:
        return "required"
    return "" if parameter.default is None or parameter.default is False else f"`{parameter.default}`"


def describe(name: str, command: Callable[..., Any]) -> str:
    """One command as Markdown."""
    hints = get_type_hints(command, include_extras=True)
    panels: dict[str, list[str]] = defaultdict(list)
    usage = ["changen", name]
    for key, parameter in inspect.signature(command).parameters.items():
        hint, info = get_args(hints[key])
        # Typer keeps the first name of an annotated option as its default.
        flags = [flag for flag in (info.default, *(info.param_decls or ())) if isinstance(flag, str)]
        names = " ".join(f"`{flag}`" for flag in flags or [f"--{key.replace('_', '-')}"])
        if isinstance(info, ArgumentInfo):
            names = f"`{key.upper()}`"
            usage.append(key.upper() if parameter.default is inspect.Parameter.empty else f"[{key.upper()}]")
        help_text, _, stated = (info.help or "").replace("\\[", "[").partition(" [default: ")
        columns = (names, takes(hint), stated.rstrip("]") or shown_default(parameter, info), help_text)
        panels[info.rich_help_panel or ""].append(f"| {' | '.join(map(cell, columns))} |")
    text = [f"## changen {name}", prose(inspect.getdoc(command) or ""), f"```\n{' '.join([*usage, '[OPTIONS]'])}\n```"]
    for panel, rows in panels.items():
        text += [f"**{panel}**"] if panel else []
        text.append("\n".join(["| option | takes | default | meaning |", "| --- | --- | --- | --- |", *rows]))
    return "\n\n".join(text)


def render() -> str:
    """The whole page."""
    commands = [(item.name, item.callback) for item in app.registered_commands]
    for group in app.registered_groups:
        commands += [(f"{group.name} {item.name}", item.callback) for item in group.typer_instance.registered_commands]
    return "\n\n".join([HEAD.rstrip(), *(describe(name, call) for name, call in commands if name and call)]) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check(TARGET, render, sys.argv[1:]))
