"""Datasets in an object store, reached through fsspec: made in a folder of this machine, and moved shard by shard.

The store is the truth: the folder is emptied when a run begins and filled with the records that are there. A shard is
uploaded when it is sealed, its record last, and its samples leave the folder. The rest follows at the end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from changen_cli.core.addresses import is_address, work_folder
from changen_cli.core.errors import LockedError, OutputError, UsageError
from changen_cli.core.lock import BEAT_S, FILE_NAME, STALE_S
from changen_cli.core.manifest import FILE_NAME as MANIFEST
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import FOLDER, ShardRecord, record_path, rows_path

_RECORDS = re.compile(rf"{FOLDER}/(\d+\.jsonl?|\.preview/[^/]+\.png)")


class Storage:
    """A dataset in an object store.

    Args:
        address: Where it lies.
        part: Name of this process, where several make it.

    Attributes:
        address: Where it lies.
        folder: Where it is made.

    Raises:
        UsageError: The address cannot be used, or the library for it is not installed.
    """

    def __init__(self, address: str, part: str = "") -> None:
        import fsspec

        self.address = address.rstrip("/")
        self.folder = work_folder(self.address, part)
        try:
            self._fs, self._root = fsspec.url_to_fs(self.address)
        except ImportError as error:
            raise UsageError(f"{address}: {error}", 'Install what it needs, e.g. pip install "changen[s3]"') from None
        except ValueError as error:
            raise UsageError(f"{address}: {error}", "Give a folder, or an address such as s3://bucket/name") from None

    def pull(self) -> None:
        """Fetch the manifest and the records that are not here yet.

        Raises:
            OutputError: Something else lies there, or the store does not answer.
        """
        with self._told("cannot be read"):
            self._fs.invalidate_cache()
            names = self._names()
        ours = [name for name in names if not name.startswith(FILE_NAME)]
        if ours and MANIFEST not in names:
            raise OutputError(f"{self.address} is not empty and was not made by changen", "Choose another --output")
        # Rows first: a record counts once its rows are there.
        wanted = sorted((name for name in ours if _RECORDS.fullmatch(name)), key=lambda name: name.endswith(".json"))
        (self.folder / MANIFEST).unlink(missing_ok=True)  # the one record that changes
        self.fetch([*wanted, *[MANIFEST] * (MANIFEST in names)])

    def fetch(self, names: Iterable[str]) -> None:
        """Fetch files that are not here."""
        wanted = [name for name in names if not (self.folder / name).is_file()]
        if wanted:
            with self._told("cannot be read"):
                self._fs.get([self._at(name) for name in wanted], [str(self._here(name)) for name in wanted])

    def put_shard(self, record: ShardRecord) -> None:
        """Upload a shard, its record last, and remove its samples from the folder."""
        from changen_cli.writers.staging import shard_files

        rows = rows_path(self.folder, record.number)
        files = shard_files(rows)
        previews = (self.folder / FOLDER / ".preview").glob("[0-9]*")
        self._put([*files, *map(self._name, previews), self._name(rows)])
        self._put([self._name(record_path(self.folder, record.number))])
        for name in files:
            (self.folder / name).unlink(missing_ok=True)

    def put_rest(self) -> None:
        """Upload everything else that lies in the folder, the manifest last."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        names = [self._name(path) for path in found]
        # Files of samples lie two folders deep, and are there already.
        names = [name for name in names if name[0] != "." and name.count("/") < 2 and name != MANIFEST]
        names = [name for name in names if not name.startswith(f"{FOLDER}/")]
        self._put(names)
        self._put([MANIFEST])

    def put_manifest(self) -> None:
        """Upload the manifest."""
        self._put([MANIFEST])

    def claim(self) -> bool:
        """Upload the manifest unless there is one; returns whether it was uploaded."""
        return self._create(MANIFEST, (self.folder / MANIFEST).read_bytes())

    def clear(self, ours: Iterable[re.Pattern[str]]) -> None:
        """Remove what an earlier run wrote, the manifest last.

        Args:
            ours: What names of ours look like.
        """
        with self._told("cannot be emptied"):
            names = self._names()
            gone = [name for name in names if any(pattern.fullmatch(name) for pattern in ours) and name != MANIFEST]
            for some in (gone, [MANIFEST] * (MANIFEST in names)):
                if some:
                    self._fs.rm([self._at(name) for name in some])

    @contextmanager
    def locked(self, name: str = FILE_NAME) -> Iterator[None]:
        """Hold a lock of the dataset: an object that says until when it holds.

        Raises:
            LockedError: Another run that lives holds it.
        """
        while not self._create(name, self._note()):
            holder = self.holder(name)
            if holder is None:
                with self._told("cannot be locked"), suppress(FileNotFoundError):
                    self._fs.rm_file(self._at(name))
                continue
            raise LockedError(
                f"{self.address} is being written by {holder}", "Wait for it, end it, or choose another --output"
            )
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(BEAT_S):
                with suppress(Exception):  # the next one may get through
                    self._fs.pipe_file(self._at(name), self._note())

        thread = threading.Thread(target=beat, name="lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            with suppress(Exception):
                self._fs.rm_file(self._at(name))

    def holder(self, name: str = FILE_NAME) -> str | None:
        """Who holds a lock; None when nobody who lives does."""
        try:
            self._fs.invalidate_cache()
            note = json.loads(self._fs.cat_file(self._at(name)))
            return f"process {note['pid']} on {note['host']}" if note["until"] > time.time() else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def locks(self) -> list[str]:
        """Names of the locks that are there."""
        with self._told("cannot be read"):
            self._fs.invalidate_cache()
            return [name for name in self._names() if name.startswith(FILE_NAME)]

    @contextmanager
    def folder_of_its_own(self) -> Iterator[None]:
        """Begin with an empty folder, and leave none."""
        own = self.folder.parent
        shutil.rmtree(own, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            yield
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _names(self) -> list[str]:
        root = self._root.rstrip("/") + "/"
        return [path.removeprefix(root) for path in self._fs.find(self._root) if path.startswith(root)]

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _here(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _put(self, names: list[str]) -> None:
        if names:
            with self._told("cannot be written"):
                self._fs.put([str(self.folder / name) for name in names], [self._at(name) for name in names])

    def _create(self, name: str, data: bytes) -> bool:
        """Write an object that is not there yet; False when it is."""
        try:
            self._fs.pipe_file(self._at(name), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if "PreconditionFailed" in repr(error) or "At least one of the pre-conditions" in str(error):
                return False
            raise OutputError(f"{self.address} cannot be written: {_short(error)}", _LOOK) from None
        except Exception as error:
            raise OutputError(f"{self.address} cannot be written: {_short(error)}", _LOOK) from None
        return True

    @staticmethod
    def _note() -> bytes:
        until = time.time() + STALE_S
        return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "until": until}).encode()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn whatever a store raises into one line: each has errors of its own kind."""
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            raise OutputError(f"{self.address} {what}: {_short(error)}", _LOOK) from None


_LOOK = "Look at credentials, network and the bucket; finished shards are kept, the same command goes on"


def storage_of(recipe: Recipe, part: str = "") -> Storage | None:
    """The store a recipe writes to; None where that is a folder.

    Raises:
        UsageError: It cannot be used, or not for what is asked for.
    """
    path = recipe.output.path
    if path is None or not is_address(path):
        return None
    if recipe.output.format == "parquet":
        raise UsageError(
            "Parquet files are put together of all samples at the end, which an object store is no place for",
            "Use --format folder and push or export that, or write to a folder",
        )
    return Storage(path, part)


def into(recipe: Recipe, storage: Storage | None) -> Recipe:
    """The recipe, writing to the folder in which what goes to a store is made."""
    if storage is None:
        return recipe
    return recipe.model_copy(update={"output": recipe.output.model_copy(update={"path": str(storage.folder)})})


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"
