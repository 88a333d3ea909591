"""Learn how acquisitions of the same ground differ, from real images of the same places."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from changen_cli.core.errors import IncompleteError, OutputError, SceneError, UsageError
from changen_cli.core.files import write_text
from changen_cli.core.nuisance import ASSUMED_GSD_M, NuisanceTable, load_nuisance
from changen_cli.core.types import Skip
from changen_cli.core.yaml_files import dump_yaml, parse_yaml
from changen_cli.workflows.progress import Progress, Silent

if TYPE_CHECKING:
    from changen_cli.synthesis.nuisance.measure import Difference

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
_LABELS = re.compile(r"mask|label|gt$|target|change|instance", re.IGNORECASE)
_DATE = re.compile(r"(?<!\d)(?:19|20)\d{2}(?:-?[01]\d-?[0-3]\d|-[01]\d)?(?!\d)|(?:pre|post)(?=_disaster)")
_LEAST_CORRELATION = 0.3
_TWO_THIRDS = 0.68
_LIMITS = {"gain": 0.5, "balance": 0.2, "haze": 0.3, "saturation": 0.5, "field": 0.3, "materials": 0.3, "season": 1.0,
           "shadow_depth": 0.6, "shadow_shift_m": 8.0, "shift_px": 4.0, "warp_px": 4.0}  # fmt: skip
_RESPONSE = {"gain": 0.82, "haze": 0.79, "saturation": 0.58, "materials": 3.6, "season": 1.7, "shadow_depth": 0.75,
             "shadow_shift_m": 1.6, "warp_px": 0.66}  # fmt: skip
"""What is drawn over what is measured of it, found by measuring pairs that were drawn: a line through the colours takes
up part of what materials answer, shadows that stay hold back those that move."""
_LEAST_BLUR = 0.3


@dataclass(frozen=True)
class NuisanceFit:
    """What was learned.

    Attributes:
        table: The strengths.
        text: The same as YAML, with what they were learned from.
        pairs: Pairs measured.
        unlike: Pairs left out because hardly anything in them is the same.
        skipped: Images that could not be used.
        measured: Keys that the pairs said something about.
    """

    table: NuisanceTable
    text: str
    pairs: int
    unlike: int
    skipped: list[Skip]
    measured: tuple[str, ...]


def fit_nuisance(
    roots: Sequence[Path],
    *,
    gsd_m: float | None = None,
    limit: int | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> NuisanceFit:
    """Learn strengths from images of the same places at several dates.

    Two dates that are drawn alike differ by √2 of what either is drawn: strengths are the difference that two thirds of
    the pairs stay within, over √2. What pairs do not tell is taken from ``realistic``.

    Args:
        roots: Folders. Images belong together that have the same name in different folders, or names that differ by a
            date (``naip_chico_2016_3``, ``naip_chico_2020_3``); folders of masks are left out.
        gsd_m: Metres per pixel; 0.5 if not given.
        limit: Stop after this many pairs.
        output: Where to write the YAML; nowhere when None.
        overwrite: Replace the file.
        progress: Who wants to know how far it is.

    Raises:
        UsageError: A folder cannot be listed, or there are no two images of one place.
        OutputError: The file exists.
        IncompleteError: No pair could be used.
    """
    if output is not None and output.exists() and not overwrite:
        raise OutputError(f"{output} exists already", "Pass --overwrite to replace it, or another --output")
    progress = progress or Silent()
    pairs = list(islice(find_pairs(roots), limit))
    if not pairs:
        raise UsageError(
            f"{', '.join(map(str, roots))}: no two images show one place",
            "Give them one name in a folder per date, or names that differ by a year",
        )
    progress.note(f"{len(pairs)} pairs of one place")
    progress.stage("measuring")
    progress.total(len(pairs))
    found: list[Difference] = []
    skipped: list[Skip] = []
    unlike = 0
    for number, pair in enumerate(pairs, start=1):
        try:
            difference = _measure(*pair)
        except SceneError as error:
            skipped.append(Skip(str(pair[1]), str(error)))
            progress.note(f"skipped {pair[1]}: {error}")
        else:
            alike = difference.unchanged >= _LEAST_CORRELATION
            found += [difference] * alike
            unlike += not alike
        progress.scene(number, len(found))
    if not found:
        raise IncompleteError(
            f"none of {len(pairs)} pairs could be used", "Are they aligned images of the same places?"
        )
    values = strengths(found, gsd_m or ASSUMED_GSD_M)
    name = roots[0].resolve().name
    base = load_nuisance("realistic").model_dump(mode="json", exclude={"name", "description"})
    told = f"Learned from {len(found)} pairs of {', '.join(root.resolve().name for root in roots)}."
    text = _yaml(told, base, values, len(found), unlike, len(skipped))
    table = load_nuisance(parse_yaml(text, "fit") | {"name": output.stem if output else name})
    if output is not None:
        write_text(output, text)
    return NuisanceFit(table, text, len(found), unlike, skipped, tuple(values))


def find_pairs(roots: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs of images of one place, by place; of several dates every one with every other.

    Raises:
        UsageError: A folder cannot be listed.
    """
    places: dict[str, dict[str, Path]] = {}
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"{root} is no folder", "Give --pairs a folder of images of the same places")
        for path in sorted(root.rglob("*")):
            folder = path.parent.relative_to(root).parts
            if path.suffix.lower() not in _SUFFIXES or any(_LABELS.search(part) for part in folder):
                continue
            dated = _DATE.search(path.stem)
            place = _DATE.sub("*", path.stem, count=1) if dated else path.stem
            date = dated[0] if dated else "/".join((root.name, *folder))
            places.setdefault(place, {}).setdefault(date, path)
    for place in sorted(places):
        dates = places[place]
        yield from ((dates[first], dates[second]) for first, second in combinations(sorted(dates), 2))


def _measure(first: Path, second: Path) -> Difference:
    """Measure one pair.

    Raises:
        SceneError: An image cannot be read, or the two do not fit each other.
    """
    from changen_cli.sources.raster import read_image
    from changen_cli.synthesis.nuisance.measure import SMALLEST_PX, measure_pair

    images = [read_image(path, None).image for path in (first, second)]
    if images[0].shape != images[1].shape:
        raise SceneError(f"{first.name} and {second.name} have different sizes", "Resample them to one grid")
    if min(images[0].shape[:2]) < SMALLEST_PX:
        raise SceneError(f"smaller than {SMALLEST_PX} px", "Leave it out")
    return measure_pair(images[0], images[1])


def strengths(found: Sequence[Difference], gsd_m: float) -> dict[str, Any]:
    """Strengths of single dates that make pairs differ as these do; without those the pairs say nothing of.

    Args:
        found: What was measured.
        gsd_m: Metres per pixel.
    """

    def single(values: Sequence[float]) -> float | None:
        known = np.abs([value for value in values if math.isfinite(value)])
        return float(np.quantile(known, _TWO_THIRDS)) / math.sqrt(2) if known.size else None

    raw = {
        "gain": single([d.gain for d in found]),
        "balance": single([value for d in found for value in d.balance]),
        "haze": single([d.haze for d in found]),
        "saturation": single([d.saturation for d in found]),
        "field": single([d.field for d in found]),
        "materials": single([d.materials for d in found]),
        "season": single([d.season for d in found]),
        "shadow_depth": single([d.shadow_depth for d in found]),
        "shadow_shift_m": single([value * gsd_m for d in found for value in d.shadow_shift]),
        "shift_px": single([value for d in found for value in d.shift]),
        "warp_px": single([d.warp for d in found]),
    }
    values: dict[str, Any] = {
        key: round(min(value * _RESPONSE.get(key, 1.0), _LIMITS[key]), 3)
        for key, value in raw.items()
        if value is not None
    }
    values["blur_px"] = [_LEAST_BLUR, _widest_blur(single([d.blur for d in found]) or 0.0)]
    levels = [level for d in found for level in d.noise]
    values["noise"] = [round(min(float(level), 20.0), 2) for level in np.quantile(levels, (0.1, 0.9))]
    return values


def _widest_blur(spread: float) -> float:
    """Upper end of a uniform range of sigmas whose squares have this standard deviation."""
    widest = _LEAST_BLUR
    while widest < 2.5 and float(np.std(np.linspace(_LEAST_BLUR, widest, 50) ** 2)) < spread:
        widest += 0.01
    return round(widest, 2)


def _yaml(told: str, base: dict[str, Any], values: dict[str, Any], pairs: int, unlike: int, skipped: int) -> str:
    """The file as people should read it: what was learned first, the rest marked as taken over."""
    left_out = f"{unlike} more have hardly anything in common, {skipped} could not be read"
    head = f"# By `changen nuisance fit` from {pairs} pairs; {left_out}.\n"
    rest = {key: value for key, value in base.items() if key not in values}
    text = head + dump_yaml({"description": told, **values})
    return text + "# Not told by pairs; as in realistic:\n" + dump_yaml(rest)
