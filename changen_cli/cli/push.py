"""``changen push-to-hub`` and ``changen push-model``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changen_cli.cli.common import result, say
from changen_cli.cli.upload_progress import make_upload_progress, size
from changen_cli.core.errors import UsageError
from changen_cli.core.untrusted import read_text

if TYPE_CHECKING:
    from changen_cli.workflows.push_target import PushReport

RepoId = Annotated[str, typer.Option("--repo-id", help="Where it goes, org/name; created when missing.")]
Private = Annotated[bool, typer.Option("--private", help="Create it so that only its owners see it.")]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Branch to push to; created when missing. \\[default: the main one]")
]
CreatePr = Annotated[bool, typer.Option("--create-pr", help="Propose the files in a pull request.")]
License = Annotated[
    str | None,
    typer.Option("--license", help="Licence to publish under, by the Hub's identifier. \\[default: computed]"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be created, sent and deleted.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File that holds the access token of the Hub; - reads it from standard input. "
        "\\[default: HF_TOKEN, or the login]",
        show_default=False,
    ),
]
_TOKEN_BYTES = 4096
_NO_FILE = "Leave it out to use HF_TOKEN or the stored login"
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]


def push_to_hub(
    dataset: Annotated[Path, typer.Argument(metavar="OUT", help="A dataset made by changen.")],
    repo_id: RepoId,
    private: Private = False,
    revision: Revision = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Shares of train, validation and test, e.g. 0.8,0.1,0.1, drawn by place: none is in two splits. "
            "\\[default: as they are]",
        ),
    ] = None,
    config_name: Annotated[
        str, typer.Option("--config-name", help="Configuration the dataset becomes; several can share a repository.")
    ] = "default",
    create_pr: CreatePr = False,
    license: License = None,
    dry_run: DryRun = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Load samples back and compare their pixels with those here.")
    ] = False,
    token_file: TokenFile = None,
    shard_size: Annotated[
        str | None,
        typer.Option("--shard-size", help="Size no shard exceeds, e.g. 200MB. \\[default: 500MB]"),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="Shards sent at a time.")] = 4,
    quiet: Quiet = False,
) -> None:
    """Publish a dataset on the Hugging Face Hub as Parquet, in one commit; run again, it sends only what is missing.

    Example: changen push-to-hub ./out --repo-id org/name --private --split 0.8,0.1,0.1
    """
    from changen_cli.exports.splits import parse_shares
    from changen_cli.workflows.push import push_dataset
    from changen_cli.workflows.push_target import Target

    target = Target(repo_id, private, revision, create_pr, license, read_token(token_file))
    with make_upload_progress(quiet=quiet) as progress:
        report = push_dataset(
            dataset, target, shares=parse_shares(split) if split else (), config=config_name, dry_run=dry_run,
            verify=verify, shard_bytes=parse_size(shard_size) if shard_size else None, workers=workers,
            progress=progress,
        )  # fmt: skip
    _tell(report, dry_run=dry_run, quiet=quiet)


def push_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder or file, as for --model.")],
    repo_id: RepoId,
    private: Private = False,
    revision: Revision = None,
    create_pr: CreatePr = False,
    license: License = None,
    dry_run: DryRun = False,
    token_file: TokenFile = None,
    quiet: Quiet = False,
) -> None:
    """Publish a trained model on the Hugging Face Hub with a model card; --model org/name then takes it from there.

    Example: changen push-model ./my-model --repo-id org/my-model --license cc-by-4.0
    """
    from changen_cli.workflows.push_model import push_model as push
    from changen_cli.workflows.push_target import Target

    target = Target(repo_id, private, revision, create_pr, license, read_token(token_file))
    with make_upload_progress(quiet=quiet) as progress:
        report = push(model, target, dry_run=dry_run, progress=progress)
    _tell(report, dry_run=dry_run, quiet=quiet)


def read_token(path: Path | None) -> str | None:
    """The token in a file; None without one. On the command line everybody on the machine could read it.

    Raises:
        UsageError: There is no such file, or it holds no text.
    """
    if path is None:
        return None
    try:
        text = sys.stdin.readline() if str(path) == "-" else read_text(path, _TOKEN_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--token-file {path} cannot be read: {reason}", _NO_FILE) from None
    if not text.strip():
        raise UsageError(f"--token-file {path} is empty", _NO_FILE)
    return text


def parse_size(text: str) -> int:
    """``"200MB"`` to bytes.

    Raises:
        UsageError: It is no size, or below 1 MB, or above the 500 MB the Hub's viewer copes with.
    """
    number, unit = text.strip().upper().removesuffix("B"), 1
    for letter, factor in (("K", 10**3), ("M", 10**6), ("G", 10**9)):
        if number.endswith(letter):
            number, unit = number.removesuffix(letter), factor
    try:
        found = int(float(number) * unit)
    except (ValueError, OverflowError):
        found = 0
    if not 100_000 <= found <= 500_000_000:
        raise UsageError(f"--shard-size {text} is no size between 0.1MB and 500MB", "For instance --shard-size 200MB")
    return found


def _tell(report: PushReport, *, dry_run: bool, quiet: bool) -> None:
    """Print what a push did, or would do."""
    if dry_run:
        shown = "private" if report.private else "public"
        lines = [f"{'create' if report.created else 'update':<7} {report.url} ({shown}, {report.licence.identifier})"]
        lines += [f"create  branch {report.branch}"] if report.branch else []
        lines += [f"send    {path}  {size(count)}" for path, count in report.send]
        lines += [f"held    {path}  {size(count)}" for path, count in report.held]
        lines += [f"delete  {path}" for path in report.delete]
        result("\n".join([*lines, "Nothing was sent."]))
        return
    if not quiet:
        sent, held = (sum(count for _, count in files) for files in (report.send, report.held))
        rows = ", ".join(f"{count} in {split}" for split, count in report.rows.items())
        told = [f"{len(report.send)} files sent, {size(sent)}"]
        told += [f"{len(report.held)} were on the Hub already, {size(held)}"] if report.held else []
        told += [f"{len(report.delete)} of an earlier push deleted"] if report.delete else []
        told += [f"samples: {rows}"] if rows else []
        told += [f"{report.verified} samples loaded back are equal"] if report.verified else []
        say(f"{'; '.join(told)}. Licence {report.licence.identifier}: {report.licence.reason}")
    result(report.url)
