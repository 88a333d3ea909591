"""``changen status``: how far a dataset is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changen_cli.cli.common import duration, result, result_json
from changen_cli.cli.upload_progress import size
from changen_cli.core.errors import one_line

if TYPE_CHECKING:
    from changen_cli.workflows.status import DatasetStatus


def status(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="A dataset folder made by changen.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as one JSON object.")] = False,
) -> None:
    """Say how far a dataset is: done, failed, rate, time left, last error, and which process is writing it.

    Looks at records and OUT/run.log; a run that is writing is not disturbed.

    Example: changen status ./out
    """
    from changen_cli.workflows.status import dataset_status

    found = dataset_status(output)
    if as_json:
        result_json(asdict(found))
        return
    for name, value in _rows(found).items():
        result(f"{name:<9} {value}")


def _rows(found: DatasetStatus) -> dict[str, str]:
    state: str = found.state
    if found.holder:
        state = f"running: {found.holder}"
    elif found.state == "killed":
        state = "killed: the last run ended without a word; the same command goes on"
    elif found.last_end.startswith(found.state):
        state = found.last_end
    images = (
        f"{found.images} done"
        if not found.images_total
        else (f"{found.images} of {found.images_total} done ({found.images / found.images_total:.0%})")
    )
    rows = {
        "state": one_line(state),
        "images": images,
        "samples": f"{found.samples} made, {found.failed_samples} failed",
        "skipped": f"{found.skipped} images or tiles; {found.failed_images} images are broken",
    }
    if found.samples_per_minute is not None:
        digits = ".0f" if found.samples_per_minute >= 100 else ".3g"
        rows["rate"] = f"{found.samples_per_minute:{digits}} samples a minute"
    if found.state != "complete" and found.seconds_left is not None:
        rows["left"] = f"about {duration(found.seconds_left)} of work at this rate"
    rows["size"] = f"{size(found.bytes)} in {found.shards} shards"
    if found.last_error:
        rows["error"] = one_line(f"{found.last_error_time}  {found.last_error}")
    return rows
