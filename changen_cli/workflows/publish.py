"""``output.push``: what a run has finished goes to the Hugging Face Hub, as ``changen push-to-hub`` sends it.

OUT/.push/pushed.json    what was pushed where: unchanged, it is not asked for again
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from changen_cli.core.addresses import is_address
from changen_cli.core.errors import ChangenError, IncompleteError, OutputError, UsageError
from changen_cli.core.files import sha256, write_text
from changen_cli.core.licences import dataset_licence
from changen_cli.core.manifest import FILE_NAME, Manifest
from changen_cli.core.recipe import Recipe
from changen_cli.workflows.progress import Progress
from changen_cli.workflows.push_record import FOLDER
from changen_cli.workflows.results import RunResult
from changen_cli.workflows.runlog import RunLog


class Publisher:
    """Pushes the dataset of one run where the recipe says so; else it does nothing.

    Args:
        recipe: What is made.
        progress: Who wants to know how far it is.
        log: Is told of a push.

    Raises:
        UsageError: The dataset is to lie where it cannot be pushed from.
    """

    def __init__(self, recipe: Recipe, progress: Progress, log: RunLog) -> None:
        self._recipe, self._progress, self._log = recipe, progress, log
        self._out = recipe.output_path
        self._repo_id = recipe.output.push or ""
        if self._repo_id and is_address(recipe.output.path):
            raise UsageError(
                f"--push {self._repo_id}: {recipe.output.path} is no folder, and only folders are pushed",
                "Write to a folder, or leave out --push",
            )
        self._memory = self._out / FOLDER / "pushed.json"

    def check_token(self) -> None:
        """Find the access token; asks nobody.

        Raises:
            UsageError: There is none.
        """
        if not self._repo_id:
            return
        from changen_cli.writers.hub_client import find_token

        if not find_token(None):
            raise UsageError(
                f"--push {self._repo_id}: there is no access token for the Hub",
                "Log in with `hf auth login`, set HF_TOKEN, or leave out --push",
            )

    def check(self, manifest: Manifest) -> None:
        """Find out before anything is made whether the Hub would take it. One that gives no answer is asked at the end.

        Args:
            manifest: The promise.

        Raises:
            OutputError: The token is not accepted or may not write there, or somebody else's files are there.
            UsageError: The repository would be public and the licence is not known.
        """
        if not self._repo_id:
            return
        from changen_cli.workflows.push import holds_ours
        from changen_cli.workflows.push_target import SilentUpload, Target, check, look
        from changen_cli.writers.hub_client import quiet_client
        from changen_cli.writers.hub_errors import is_transient

        target, licence = Target(self._repo_id), dataset_licence(manifest)
        try:
            with quiet_client():
                remote = look(target.repository("dataset", None), SilentUpload(), dry_run=False)
        except OutputError as error:
            if not is_transient(error):
                raise
            self._progress.note(f"--push {self._repo_id}: the Hub gives no answer now; it is asked again at the end")
            return
        if not licence.known and not (remote and remote.private):
            raise UsageError(
                f"--push {self._repo_id}: it would be public, but its licence is not known. {licence.reason}".rstrip(
                    "."
                ),
                "State that of the images with --source-license, or create the repository as a private one first",
            )
        check(target, remote, licence, ours=remote is not None and holds_ours(remote))

    @contextmanager
    def publishing(self, result: RunResult, stop: str) -> Iterator[None]:
        """Push at the end of the block: what is complete, and what a run that used up a budget leaves readable.

        Args:
            result: What there is; told where it was pushed to.
            stop: Which budget was used up; empty where none was.
        """
        try:
            yield
        except IncompleteError:
            if stop and result.samples and self._recipe.output.format == "folder":
                self.push()
            raise
        result.pushed = self.push()

    def push(self) -> str:
        """Push what lies in the output folder, unless it was pushed before as it is.

        Returns:
            Its address; empty where none is wanted.

        Raises:
            OutputError: It could not be pushed. Nothing is visible there then, and nothing here is lost.
        """
        if not self._repo_id:
            return ""
        from changen_cli.workflows.push import push_dataset
        from changen_cli.workflows.push_target import Target

        state = self._state()
        if (url := self._pushed_before(state)) is not None:
            return url
        self._progress.stage("pushing")
        try:
            report = push_dataset(self._out, Target(self._repo_id), progress=_Upload(self._progress))
        except ChangenError as error:
            raise OutputError(
                f"{self._out} is there, but was not pushed to {self._repo_id}: {error}",
                "The same command tries it again",
            ) from error
        write_text(self._memory, json.dumps(state | {"url": report.url, "commit": report.commit}, indent=1) + "\n")
        self._log.pushed(self._repo_id, report.commit, len(report.send))
        return report.url

    def _state(self) -> dict[str, Any]:
        """What would be pushed where: the manifest holds the hash of everything else."""
        from huggingface_hub import constants

        return {"endpoint": constants.ENDPOINT, "repo_id": self._repo_id, "manifest": sha256(self._out / FILE_NAME)}

    def _pushed_before(self, state: dict[str, Any]) -> str | None:
        try:
            told = json.loads(self._memory.read_text(encoding="utf-8"))
            return str(told["url"]) if {key: told[key] for key in state} == state else None
        except (OSError, ValueError, TypeError, KeyError):
            return None


class _Upload:
    """Hands the events of a push on to a run's :class:`~changen_cli.workflows.progress.Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def note(self, text: str) -> None:
        self._progress.note(text)

    def sent(self, done: int, total: int) -> None:
        self._progress.stage(f"pushing, {done / 1e6:.0f} of {total / 1e6:.0f} MB")
