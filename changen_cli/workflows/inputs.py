"""Where a run reads from: the input folder, or the folder an archive is unpacked to for as long as the run takes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from glob import escape
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from changen_cli.core.archives import archive_stem, is_archive
from changen_cli.core.recipe import Recipe

P = ParamSpec("P")
T = TypeVar("T")


def source_root(recipe: Recipe) -> Path:
    """The input of a recipe; an archive is unpacked first, unless it is already.

    The folder lies beside the output, so that it is where there is room and where other workers of the run find it.

    Raises:
        UsageError: The archive cannot be unpacked, or should not be.
    """
    given = Path(recipe.source.input)
    if not is_archive(given.name) or not given.is_file():
        return given
    folder = _cache(recipe) / archive_stem(given.name)
    if not folder.is_dir():
        from changen_cli.sources.archives import unpack

        unpack(given, folder)
    return folder


def with_unpacked_input(work: Callable[Concatenate[Recipe, P], T]) -> Callable[Concatenate[Recipe, P], T]:
    """Remove what an archive was unpacked to when the function, whose first argument is a recipe, is done."""

    @wraps(work)
    def wrapped(recipe: Recipe, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with _removing(recipe):
            return work(recipe, *args, **kwargs)

    return wrapped


@contextmanager
def _removing(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    finally:
        if is_archive(Path(recipe.source.input).name):
            output = recipe.output_path
            # Those of killed runs too: the archive may have changed since, and with it the name.
            for left in output.parent.glob(f".{escape(output.name)}.{'[0-9a-f]' * 8}.input"):
                shutil.rmtree(left, ignore_errors=True)


def _cache(recipe: Recipe) -> Path:
    """A folder of its own for every archive and every state of it."""
    archive, output = Path(recipe.source.input), recipe.output_path
    try:
        status = archive.stat()
        state = f"{os.path.realpath(archive)} {status.st_size} {status.st_mtime_ns}"
    except OSError:
        state = ""
    digest = hashlib.blake2b(state.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return output.parent / f".{output.name}.{digest}.input"
