"""``changen status``: how far a dataset is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changen_cli.cli.common import duration, result, result_json
from changen_cli.cli.upload_progress import size
from changen_cli.core.addresses import is_address
from changen_cli.core.errors import UsageError, one_line

if TYPE_CHECKING:
    from changen_cli.workflows.status import DatasetStatus


def status(
    output: Annotated[str, typer.Argument(metavar="OUT", help="A dataset folder made by changen.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as one JSON object.")] = False,
) -> None:
    """Say how far a dataset is: done, failed, rate, time left, last error, and which process is writing it.

    Looks at records and OUT/run.log; a run that is writing is not disturbed.

    Example: changen status ./out
    """
    from changen_cli.workflows.status import dataset_status

    if is_address(output):
        raise UsageError(
            f"{output} is no folder", "status looks at folders; in an object store shards/ holds the records"
        )
    found = dataset_status(Path(output))
    if as_json:
        result_json(asdict(found))
        return
    for name, value in _rows(found).items():
        result(f"{name:<9} {value}")


def _rows(found: DatasetStatus) -> dict[str, str]:
    state: str = found.state
    if found.holders:
        more = f" and {len(found.holders) - 3} more" if len(found.holders) > 3 else ""
        state = f"running: {'; '.join(map(str, found.holders[:3]))}{more}"
    elif found.state == "killed":
        state = "killed: the last run ended without a word; the same command goes on"
    elif found.last_end.startswith(found.state):
        state = found.last_end
    images, total = found.images, found.images_total
    rows = {
        "state": one_line(state),
        "images": f"{images} of {total} done ({images / total:.0%})" if total else f"{images} done",
        "samples": f"{found.samples} made, {found.failed_samples} failed",
        "skipped": f"{found.skipped} images or tiles; {found.failed_images} images are broken",
    }
    if found.rejected:
        counts = ", ".join(f"{reason} {count}" for reason, count in found.rejected.items())
        rows["rejected"] = f"{sum(found.rejected.values())} samples by the quality gate: {counts}"
    if found.samples_per_minute is not None:
        digits = ".0f" if found.samples_per_minute >= 100 else ".3g"
        rows["rate"] = f"{found.samples_per_minute:{digits}} samples a minute"
    if found.state != "complete" and found.seconds_left is not None:
        rows["left"] = f"about {duration(found.seconds_left)} of work at this rate"
    rows["size"] = f"{size(found.bytes)} in {found.shards} shards"
    if found.last_error:
        rows["error"] = one_line(f"{found.last_error_time}  {found.last_error}")
    return rows
