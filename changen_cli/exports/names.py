"""File names every reader of a layout can take."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|^[.-]")
_MAX = 200


class SafeNames:
    """Gives every item a file name of its own, whatever its id.

    Lists of names are split at spaces and cut at ``#`` by some readers, and Windows and macOS do not tell ``a`` from
    ``A``. A name that had to be changed, or is taken but for its case, ends in a hash of the id.

    Args:
        avoid: Texts no name may hold; readers that find the files of a pair by replacing a folder's name in the whole
            path would replace them too.
    """

    def __init__(self, *avoid: str) -> None:
        self._avoid = avoid
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """The file name, without suffix, for an item of this id."""
        safe = _UNSAFE.sub("_", name)
        for text in self._avoid:
            safe = safe.replace(text, f"{text[:-1]}_{text[-1]}")
        if safe != name or len(safe) > _MAX or safe.casefold() in self._taken:
            digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=5).hexdigest()
            safe = f"{safe[: _MAX - len(digest) - 1]}.{digest}"
        self._taken.add(safe.casefold())
        return safe
