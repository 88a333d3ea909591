"""``changen run`` and ``changen recipe``: everything a run can be told, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changen_cli.cli import options
from changen_cli.cli.common import result, say
from changen_cli.cli.generate import make

if TYPE_CHECKING:
    from changen_cli.core.recipe import Recipe

app = typer.Typer(no_args_is_help=True, help="Recipes: begin one, look at it, check it.")

File = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file, or a dataset whose recipe is meant.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key, e.g. events.steps=3; may be given several times. Paths are as seen from here.",
    ),
]


def run(
    recipe: File,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write: a folder, or s3://bucket/name. "
            "\\[default: as the recipe says, else its input's name with -changen]",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    settings: Settings = None,
    mode: options.Mode = None,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Make the dataset a recipe describes, as generate would with the same options.

    Example: changen run recipes/demo.yaml --output ./out --set limit=2
    """
    given = {"output.path": output, "output.mode": mode}
    make(_load(recipe, settings, given), dry_run=dry_run, quiet=quiet, as_json=as_json)


@app.command("init")
def init(
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist yet.")] = Path("recipe.yaml"),
) -> None:
    """Begin a recipe: a file with every key, its default and what it means.

    Example: changen recipe init my-recipe.yaml
    """
    from changen_cli.core.errors import OutputError
    from changen_cli.core.files import write_text
    from changen_cli.core.recipe_files import starter_text

    if file.exists():
        raise OutputError(f"{file} exists already", "Name a new file")
    write_text(file, starter_text())
    say(f"Say where the images are (source.input), then: changen recipe check {file}")
    result(str(file))


@app.command("show")
def show(recipe: File, settings: Settings = None) -> None:
    """Print a recipe with every value it has: a recipe again, that makes the same.

    Example: changen recipe show ./out/manifest.json > again.yaml
    """
    from changen_cli.core.recipe_files import resolved_text

    result(resolved_text(_load(recipe, settings)).rstrip())


@app.command("check")
def check(recipe: File, settings: Settings = None) -> None:
    """Say whether a recipe can be carried out: its keys and values, its input, classes and model.

    Looks at the first scenes only, and fetches nothing: a model on the Hub is taken for granted.
    """
    from changen_cli.workflows.recipes import check_recipe

    checked = check_recipe(_load(recipe, settings))
    for line in checked.notes:
        say(line)
    result(f"{recipe} can be carried out; output: {checked.output}")


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of recipes, with which editors complete keys and mark mistakes.

    Example: changen recipe schema > changen.schema.json
    """
    from changen_cli.core.recipe_files import recipe_schema

    result(json.dumps(recipe_schema(), indent=1))


def _load(recipe: Path, settings: list[str] | None, given: Mapping[str, str | None] | None = None) -> Recipe:
    from changen_cli.core.recipe_files import load_recipe, parse_settings

    changes = parse_settings(settings or ())
    return load_recipe(recipe, changes | {key: value for key, value in (given or {}).items() if value})
