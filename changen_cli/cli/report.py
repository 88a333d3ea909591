"""``changen report`` and ``changen gif``: a dataset to look at in a browser, a sample as a time-lapse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from changen_cli.cli.common import make_progress, result, result_json, say

Dataset = Annotated[Path, typer.Argument(metavar="OUT", help="A dataset folder made by changen.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def report(
    out: Dataset,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page. \\[default: OUT/report.html]")
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=2000, help="Most samples to show; figures are of all.")
    ] = 60,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Write nothing; show all samples to browsers on this machine until Ctrl-C."),
    ] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of --serve; 0 takes a free one.")] = 8765,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset as one page to look at: gallery, two dates under a slider, events, figures; it loads nothing.

    At most 20 MB: of many samples, pictures are smaller, then fewer. --serve shows all of them at full size.

    Example: changen report ./out --open
    """
    import webbrowser

    if serve:
        _serve(out, port, show=show, quiet=quiet, as_json=as_json)
        return
    from changen_cli.workflows.report import make_report

    with make_progress(quiet=quiet, items="samples", made="drawn") as progress:
        made = make_report(out, output=output, samples=samples, progress=progress)
    if as_json:
        result_json(
            {
                "report": str(made.path),
                "shown": made.shown,
                "samples": made.total,
                "bytes": made.size,
                "picture_px": made.side_px,
            }
        )
    else:
        say(f"{made.shown} of {made.total} samples, pictures up to {made.side_px} px, {made.size / 1e6:.1f} MB")
        result(str(made.path))
    if show:
        webbrowser.open(made.path.resolve().as_uri())


def _serve(out: Path, port: int, *, show: bool, quiet: bool, as_json: bool) -> None:
    """Serve the report until somebody ends it."""
    import webbrowser

    from changen_cli.core.signals import terminable
    from changen_cli.workflows.report_server import Exhibit, ReportServer

    with make_progress(quiet=quiet, items="samples", made="read") as progress:
        exhibit = Exhibit(out, progress)
    with ReportServer(exhibit, port) as server:
        if as_json:
            result_json({"url": server.url})
        else:
            say("Ctrl-C ends it.")
            result(server.url)
        if show:
            webbrowser.open(server.url)
        try:
            with terminable():
                server.serve_forever()
        except KeyboardInterrupt:
            say("")


def gif(
    out: Dataset,
    sample: Annotated[str, typer.Option("--sample", help="Id of the sample. \\[default: the first one]")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file, .gif or .webp. \\[default: ID.gif in this folder]"),
    ] = None,
    width: Annotated[int, typer.Option("--width", min=64, max=4096, help="Width in px, at most.")] = 512,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, max=10, help="How long a date is shown.")] = 1.0,
    outlines: Annotated[
        bool, typer.Option("--outlines/--no-outlines", help="Show every date with its changes outlined, then alone.")
    ] = True,
) -> None:
    """Draw a sample as a time-lapse: its dates one after the other, what changed outlined as it appears.

    Example: changen gif ./out --sample banepa_00000000_v00 -o banepa.gif
    """
    from changen_cli.workflows.timelapse import timelapse

    result(str(timelapse(out, sample=sample, output=output, width=width, seconds=seconds, outlines=outlines)))
