"""The root command: subcommands, the one place where errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from changen_cli import __version__
from changen_cli.cli import (
    detector,
    evaluate,
    export,
    generate,
    inspect,
    models,
    nuisance,
    preview,
    push,
    recipes,
    replay,
    report,
    simulate,
    status,
    train,
    transitions,
    validate,
)
from changen_cli.cli.common import result, say
from changen_cli.core.errors import ChangenError
from changen_cli.core.secrets import masked
from changen_cli.core.signals import Terminated


class _ErrorBoundary(TyperGroup):
    """Known errors become one clear line and their exit code; CHANGEN_DEBUG=1 shows the traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ChangenError as error:
            if os.environ.get("CHANGEN_DEBUG"):
                raise
            say(f"Error: {error}")
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            # A full disk, a missing permission: nothing a traceback would help with.
            if os.environ.get("CHANGEN_DEBUG"):
                raise
            say(f"Error: {error}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            say("Interrupted. What was finished is kept.")
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None


app = typer.Typer(
    name="changen",
    cls=_ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Image time series with exact change labels from single-date overhead images (Changen2).\n\n"
        "Start with: [bold]changen generate --input ./xview2 --steps 3 --res 1024[/bold]"
    ),
    epilog=(
        "Exit codes: 0 done or nothing to do, 1 error, 2 bad request, 3 incomplete or too much failed, 4 another run "
        "writes there, 130 and 143 interrupted."
    ),
)


def _version(value: bool) -> None:
    if value:
        result(f"changen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command(name="generate")(generate.generate)
app.command(name="run")(recipes.run)
app.command(name="simulate")(simulate.simulate)
app.command(name="preview")(preview.preview)
app.command(name="train")(train.train)
app.command(name="train-detector")(detector.train_detector)
app.command(name="detect")(detector.detect)
app.command(name="export")(export.export)
app.command(name="replay")(replay.replay)
app.command(name="validate")(validate.validate)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="report")(report.report)
app.command(name="gif")(report.gif)
app.command(name="status")(status.status)
app.command(name="info")(inspect.info)
app.command(name="sample")(inspect.sample)
app.command(name="push-to-hub")(push.push_to_hub)
app.command(name="push-model")(push.push_model)
app.add_typer(models.app, name="models")
app.add_typer(recipes.app, name="recipe")
app.add_typer(transitions.app, name="transitions")
app.add_typer(nuisance.app, name="nuisance")


def main() -> None:
    """Entry point of the ``changen`` command. What nobody expected ends with a traceback, without tokens."""
    try:
        app()
    except Exception:
        say(masked(traceback.format_exc()).rstrip())
        sys.exit(1)
