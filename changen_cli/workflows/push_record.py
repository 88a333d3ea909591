"""What a push remembers beside the dataset, so that the next one builds and sends only what is missing.

    OUT/.push/shards.json     key of a shard → its hash, its size, the size of its columns
    OUT/.push/building-*/     shards on their way; cleared when a push starts

A hash is written down before its shard is sent: whether the Hub has it is asked of the Hub. No token is stored.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from changen_cli.core.errors import OutputError
from changen_cli.core.files import write_text
from changen_cli.core.untrusted import read_json
from changen_cli.writers.hub_files import Stored

FOLDER = ".push"


@dataclass(frozen=True)
class Built:
    """A shard that was built.

    Attributes:
        stored: Its hash and size.
        raw: Bytes of its columns before compression.
    """

    stored: Stored
    raw: int

    @classmethod
    def of(cls, path: Path, sha256: str) -> Built:
        """Of a shard on disk."""
        import pyarrow.parquet as pq

        footer = pq.read_metadata(path)
        raw = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
        return cls(Stored(sha256, path.stat().st_size), raw)


class PushRecord:
    """Hashes of shards that were built, by their keys. May be used from several threads.

    Args:
        out: The dataset folder.

    Raises:
        OutputError: It cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER
        self._path = self.folder / "shards.json"
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise OutputError(
                f"{self.folder}, where shards are built, cannot be written: {error.strerror}",
                "Make the dataset's folder writable, or push a copy",
            ) from None
        try:
            rows = read_json(self._path)
            self._known = {
                key: Built(Stored(str(sha256), int(size)), int(raw)) for key, (sha256, size, raw) in rows.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            self._known = {}  # none yet, or not to be trusted: shards are built again

    def get(self, key: str) -> Built | None:
        """What is known of a shard that was built before."""
        return self._known.get(key)

    def put(self, key: str, built: Built) -> None:
        """Write one down."""
        with self._lock:
            self._known[key] = built
            rows = {k: [b.stored.sha256, b.stored.size, b.raw] for k, b in sorted(self._known.items())}
            write_text(self._path, json.dumps(rows, indent=1) + "\n")

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """Yield a fresh folder to build in and remove it after; those of pushes that were killed are removed, too."""
        for left in self.folder.glob("building-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="building-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
