"""Outputs that are no folder of this machine: addresses such as ``s3://bucket/dataset``."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from changen_cli.core.errors import UsageError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_address(path: str | None) -> bool:
    """Whether an output is an address rather than a path."""
    return bool(path and _ADDRESS.match(path))


def work_folder(address: str, part: str = "") -> Path:
    """The folder of this machine where a dataset is made that lies elsewhere.

    It is ``changen/work/…`` below ``$CHANGEN_WORK``, ``$XDG_CACHE_HOME`` or ``~/.cache``, and holds a shard at most.

    Args:
        address: Where the dataset lies.
        part: Name of a process, where several make it.

    Raises:
        UsageError: The address holds a password; it would end up in manifests and logs.
    """
    scheme, _, place = address.partition("://")
    if "@" in place.partition("/")[0]:
        raise UsageError(
            f"{scheme}://…@… names a user", "Leave it out; credentials come from the environment or configuration files"
        )
    digest = hashlib.blake2b(address.rstrip("/").encode(), digest_size=6).hexdigest()
    root = os.environ.get("CHANGEN_WORK") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = re.sub(r"[^\w.-]", "-", place.rstrip("/").rpartition("/")[2]).lstrip(".") or "dataset"
    return Path(root, "changen", "work", "-".join(filter(None, (digest, part))), name)
