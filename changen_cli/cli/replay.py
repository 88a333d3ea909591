"""``changen replay``: make one sample again and compare."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changen_cli.cli.common import make_progress, result, result_json, say

if TYPE_CHECKING:
    from changen_cli.exports.compare import Comparison
    from changen_cli.workflows.replay import Replay


def replay(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset made by changen generate or simulate.")],
    sample: Annotated[str, typer.Option("--sample", metavar="ID", help="Id of the sample, as in image_name.")],
    step: Annotated[
        int | None,
        typer.Option("--step", min=0, help="Only the step from this date to the next. \\[default: the whole series]"),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", "-i", help="Where the input lies now. \\[default: where it was]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A new folder to keep the new copy in. \\[default: it is not kept]"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Make one sample again from what the dataset says of it, and compare; exit code 3 unless all bytes are the same.

    The dataset is only read. On another device or with other versions of libraries images may differ in
    details; the peak signal-to-noise ratio (PSNR) says how much.

    Example: changen replay ./out --sample banepa_00000000_v00
    """
    from changen_cli.workflows.replay import replay as run

    with make_progress(quiet=quiet, items="images", made="samples") as progress:
        done = run(folder, sample, step=step, source=source, output=output, progress=progress)
    if as_json:
        result_json(asdict(done) | {"identical": done.identical, "labels_equal": done.labels_equal})
    else:
        _tell(done)
    if not done.identical:
        raise typer.Exit(3)


def _tell(done: Replay) -> None:
    for line in done.elsewhere:
        say(f"not as it was made: {line}")
    what = done.sample if done.step is None else f"{done.sample}, step {done.step}"
    unlike = [file for file in done.files if file.state != "identical"]
    for file in unlike:
        result(_line(file))
    if not unlike:
        result(f"{what}: byte-identical, {len(done.files)} files")
    else:
        labels = "masks and events are equal" if done.labels_equal else "NOT only images differ"
        result(f"{what}: {len(unlike)} of {len(done.files)} files are not the same, byte for byte; {labels}")
    if done.output is not None:
        say(f"the new copy is in {done.output}")


def _line(file: Comparison) -> str:
    psnr = "" if file.psnr_db is None else f"PSNR {file.psnr_db:.2f} dB"
    return ", ".join(filter(None, (f"{file.name}: {file.state}", psnr, file.note)))
