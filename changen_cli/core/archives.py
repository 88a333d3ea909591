"""Which inputs are archives, by their names."""

from __future__ import annotations

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")


def is_archive(name: str) -> bool:
    """Whether a file is called like an archive that can be read."""
    return name.lower().endswith(SUFFIXES)


def archive_stem(name: str) -> str:
    """The name of the folder an archive is unpacked to; other names stay as they are."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)] or name
    return name
