"""What a push remembers beside the dataset, so that the next one builds and sends only what is missing.

    OUT/.push/shards.json     key of a shard → its hash and size
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
from pathlib import Path

from changen_cli.core.files import write_text
from changen_cli.writers.hub_files import Stored

FOLDER = ".push"


class PushRecord:
    """Hashes of shards that were built, by their keys. May be used from several threads.

    Args:
        out: The dataset folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER
        self._path = self.folder / "shards.json"
        self._lock = threading.Lock()
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            self._known = {key: Stored(str(sha256), int(size)) for key, (sha256, size) in rows.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._known = {}  # none yet, or not to be trusted: shards are built again

    def get(self, key: str) -> Stored | None:
        """Hash and size of a shard that was built before."""
        return self._known.get(key)

    def put(self, key: str, stored: Stored) -> None:
        """Write one down."""
        with self._lock:
            self._known[key] = stored
            rows = {key: [item.sha256, item.size] for key, item in sorted(self._known.items())}
            write_text(self._path, json.dumps(rows, indent=1) + "\n")

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """Yield a fresh folder to build in and remove it after; those of pushes that were killed are removed, too."""
        self.folder.mkdir(exist_ok=True)
        for left in self.folder.glob("building-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="building-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
