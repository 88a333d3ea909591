"""Pairs of images brought to where a change detector learns from them, or is tried on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from changen_cli.core.errors import SceneError, UsageError
from changen_cli.core.types import IGNORE, ClassSchema, Skip
from changen_cli.sources.raster import read_image
from changen_cli.workflows.image_pairs import ImagePair, ImagePairs
from changen_cli.workflows.nuisance_fit import find_pairs
from changen_cli.workflows.progress import Progress

if TYPE_CHECKING:
    from changen_cli.training.detection_pairs import PairTile, SceneTile
    from changen_cli.training.tiles import TilePool


@dataclass(frozen=True)
class Read:
    """What was read into a pool.

    Attributes:
        count: How many pairs.
        firsts: For every series that has any, the place of its first pair among them.
        skipped: What cannot be used.
    """

    count: int
    firsts: tuple[int, ...]
    skipped: tuple[Skip, ...]


def read_tiles(
    pairs: ImagePairs,
    numbers: Sequence[int],
    pool: TilePool[PairTile],
    told: Callable[[int, int], None] = lambda done, found: None,
) -> Read:
    """Read pairs of a set into a pool.

    Args:
        pairs: The set.
        numbers: Which of it.
        pool: Where they go.
        told: Called after each number: how many are done, and how many pairs were found.
    """
    from changen_cli.training.detection_pairs import NOTHING_SAID, PairTile, meanings

    allowed = NOTHING_SAID if pairs.schema is None else meanings(pairs.schema)
    firsts: list[int] = []
    skipped: list[Skip] = []
    count = 0
    for done, number in enumerate(numbers, start=1):
        start = count
        for pair in pairs.read(number):
            if isinstance(pair, Skip):
                skipped.append(pair)
                continue
            change = pair.change.astype(np.uint8)
            change[~pair.known] = IGNORE
            first, second = (np.zeros_like(change),) * 2 if pair.masks is None else pair.masks
            said = NOTHING_SAID if pair.masks is None else allowed
            pool.add(PairTile(pair.before, pair.after, change, first, second, said, pair.place))
            count += 1
        firsts += [start] if count > start else []
        told(done, count)
    return Read(count, tuple(firsts), tuple(skipped))


def first_dates(tiles: Sequence[PairTile], firsts: Sequence[int]) -> list[SceneTile]:
    """The first date of every series, with its mask: single-date images."""
    from changen_cli.training.detection_pairs import SceneTile

    chosen = [tiles[index] for index in firsts]
    return [SceneTile(tile.before, tile.first, tile.allowed, tile.group) for tile in chosen]


def movable_classes(schema: ClassSchema) -> tuple[int, ...]:
    """Ids of what can be cut out and pasted: buildings of a set of buildings, all known classes of others."""
    known = [index for index in range(len(schema.names)) if index not in schema.unknown_ids]
    return schema.building_ids or (1,) if len(schema.names) == 2 else tuple(known)


def real_pairs(pairs: ImagePairs, most: int, progress: Progress) -> Iterator[ImagePair]:
    """Some pairs of a set, one at a time, with progress; those that cannot be read are named."""
    numbers = pairs.choose(most)
    progress.total(len(numbers))
    found = 0
    for done, number in enumerate(numbers, start=1):
        for pair in pairs.read(number):
            if isinstance(pair, Skip):
                progress.note(f"skipped {pair.path}: {pair.reason}")
                continue
            found += 1
            yield pair
        progress.scene(done, found)


def find_unchanged(roots: Sequence[Path], most: int) -> list[tuple[Path, Path]]:
    """Files of real images of the same places at two dates.

    Args:
        roots: Folders, see :func:`~changen_cli.workflows.nuisance_fit.find_pairs`.
        most: At most so many pairs, spread over them.

    Raises:
        UsageError: There are none.
    """
    files = list(find_pairs(roots))
    if roots and not files:
        raise UsageError(
            f"--unchanged {', '.join(map(str, roots))}: no two images show one place",
            "Give them one name in a folder per date, or names that differ by a year",
        )
    return [files[index * len(files) // most] for index in range(most)] if len(files) > most else files


def unchanged_pairs(files: Sequence[tuple[Path, Path]], progress: Progress) -> Iterator[ImagePair]:
    """Real images of the same places at two dates, without labels, as if nothing had changed.

    Args:
        files: The two images of each pair; what cannot be read is named and left out.
        progress: Told how far it is.
    """
    progress.total(len(files))
    found = 0
    for done, paths in enumerate(files, start=1):
        try:
            rasters = [read_image(path) for path in paths]
            if rasters[0].image.shape != rasters[1].image.shape:
                raise SceneError("its two images differ in size")
        except SceneError as error:
            progress.note(f"skipped {paths[1]}: {error}")
        else:
            known = np.ones(rasters[0].image.shape[:2], bool)
            for raster in rasters:
                known &= True if raster.nodata is None else ~raster.nodata
            found += 1
            yield ImagePair(
                paths[1].name, paths[1].stem, rasters[0].image, rasters[1].image, np.zeros_like(known), known
            )
        progress.scene(done, found)
