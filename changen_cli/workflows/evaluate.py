"""The evaluation of a dataset: are its labels exact, does it give them away, is it as asked, does it look real?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import Skip
from changen_cli.exports.findings import one_line
from changen_cli.exports.master import Master, open_master
from changen_cli.workflows.audit import Cue, Figure, audit, identical_share
from changen_cli.workflows.change_statistics import Asked, ChangeStatistics
from changen_cli.workflows.cues import PairCues, observe
from changen_cli.workflows.evaluation import update_evaluation
from changen_cli.workflows.image_pairs import ImagePairs, made_pairs, open_real_pairs
from changen_cli.workflows.likeness import Likeness, bundled_describer
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.published_metrics import Networks, PublishedMetrics
from changen_cli.workflows.validate import MASTER, validate

SAMPLES = 200
_SHARED = ("changed_share", "objects_per_pair", "object_px_10", "object_px_50", "object_px_90", "clark_evans")


@dataclass
class Seen:
    """What was seen of a set of pairs; grows with the pairs looked at, not with their pixels.

    Attributes:
        cues: For the shortcut audit.
        statistics: Of the change masks.
        likeness: Features of windows; None where nobody asked.
        skipped: Pairs that could not be used.
    """

    cues: list[PairCues] = field(default_factory=list)
    statistics: ChangeStatistics = field(default_factory=ChangeStatistics)
    likeness: Likeness | None = None
    skipped: list[Skip] = field(default_factory=list)

    @property
    def places(self) -> int:
        """How many places the pairs show."""
        return len({cues.place for cues in self.cues})


def evaluate(
    out: Path,
    *,
    real: Path | None = None,
    samples: int = SAMPLES,
    likeness: bool = True,
    networks: Networks | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a dataset, write ``OUT/evaluation.json``, and put the figures into its card.

    The same dataset gives the same figures. Figures of other tools in the file (``usefulness``) stay while the dataset
    stays as it is.

    Args:
        out: The dataset, in either layout.
        real: A folder of real pairs to compare with, see :func:`~changen_cli.workflows.image_pairs.open_real_pairs`.
        samples: Most samples, and most real pairs, whose pixels are looked at; counts and areas are of all samples.
        likeness: Whether to compare drawn with real ground by the bundled segmenter's features, which needs torch.
        networks: Networks for FID, KID, CMMD and LPIPS; they run as programs.
        progress: Told how far it is.

    Returns:
        The content of the file, see docs/evaluate.md.

    Raises:
        UsageError: There is no finished dataset with images, or no real pair.
        OutputError: A file of the dataset cannot be read.
        ModelError: A network cannot be used.
        LockedError: A run writes to it.
    """
    named = networks.options() if networks else []
    if named and not likeness:
        raise UsageError(f"{named[0]} is for what --no-likeness leaves out", "Leave one of the two out")
    progress = progress or Silent()
    master = open_master(out)
    made = made_pairs(master)
    theirs = None if real is None else open_real_pairs(real)
    published = PublishedMetrics(networks) if networks and named else None
    checked = validate(out, layout=MASTER, progress=progress)
    asked = _count(master, progress)
    ours = look(made, samples, "pairs made", likeness=likeness, published=published, progress=progress)
    other = None
    if theirs is not None:
        other = look(theirs, samples, "real pairs", likeness=likeness, progress=progress)
        if not other.cues:
            raise UsageError(f"--real {real}: no pair could be read ({_first(other.skipped)})")
    progress.stage("probing")
    cues = audit(ours.cues, other.cues if other else None)
    sections: dict[str, Any] = {
        "samples": asked.samples,
        "looked_at": {"samples": min(samples, made.count), "pairs": len(ours.cues), "places": ours.places},
        "real": _told(real, theirs, other),
        "exactness": {
            "verdict": "over" if checked.errors else "ok",
            "errors": checked.errors,
            "warnings": checked.warnings,
            "first": [f"{finding.file}: {finding.message}" for finding in checked.findings[:5]],
        },
        "shortcuts": _shortcuts(cues, ours),
        "statistics": _statistics(asked, ours, other),
        "transitions": asked.transitions(_recorded(master), master.schema.names),
        "likeness": ours.likeness.figures(other.likeness if other else None) if ours.likeness else {},
    }
    return update_evaluation(out, _plain(sections))


def look(
    pairs: ImagePairs,
    most: int,
    stage: str,
    *,
    likeness: bool,
    progress: Progress,
    published: PublishedMetrics | None = None,
) -> Seen:
    """Go through some pairs of a set, one at a time.

    Args:
        pairs: The set.
        most: So many are looked at.
        stage: What to call this.
        likeness: Whether to describe windows by the bundled segmenter.
        progress: Told how far it is.
        published: Gets the windows too.
    """
    numbers = pairs.choose(most)
    seen = Seen(likeness=Likeness(bundled_describer(), len(numbers), published) if likeness else None)
    progress.stage(stage)
    progress.total(len(numbers))
    for done, number in enumerate(numbers, 1):
        for pair in pairs.read(number):
            if isinstance(pair, Skip):
                seen.skipped.append(pair)
                continue
            rng = derive_rng(0, "evaluate", pair.name)
            seen.cues.append(observe(pair.before, pair.after, pair.change, pair.known, pair.place, rng))
            seen.statistics.add(pair.change, pair.known)
            if seen.likeness is not None:
                seen.likeness.add(pair, rng)
        progress.scene(done, len(seen.cues))
    return seen


def _count(master: Master, progress: Progress) -> Asked:
    progress.stage("counting")
    asked = Asked()
    for row, events in master.logs():
        try:
            asked.add(row, events)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise OutputError(
                f"{row.get('image_name')}: its metadata or events are not as they should be: {one_line(error)}",
                "Run changen validate on the dataset",
            ) from None
    return asked


def _told(real: Path | None, pairs: ImagePairs | None, seen: Seen | None) -> dict[str, Any] | None:
    """What the dataset was compared with; not where that lies, for the file travels with the dataset."""
    if real is None or pairs is None or seen is None:
        return None
    return {
        "name": real.resolve().name,
        "layout": pairs.layout,
        "pairs": len(seen.cues),
        "places": seen.places,
        "skipped": len(seen.skipped),
    }


def _first(skipped: list[Skip]) -> str:
    return f"{skipped[0].path}: {skipped[0].reason}" if skipped else "it is empty"


def _shortcuts(cues: list[Cue], seen: Seen) -> dict[str, Any]:
    verdicts = {cue.verdict for cue in cues}
    found: dict[str, Any] = {
        "verdict": next(verdict for verdict in ("over", "unsure", "ok") if verdict in verdicts),
        "identical_share": identical_share(seen.cues),
    }
    for cue in cues:
        kind, _, name = cue.name.partition(".")
        key = "ratio" if kind == "balance" else "auc"
        row = _figure(key, cue.made) | ({f"real_{key}": cue.real.value} if cue.real else {})
        found.setdefault(kind, {})[name] = row | {"bar": cue.bar, "verdict": cue.verdict, "advice": cue.advice}
    return found


def _figure(key: str, figure: Figure) -> dict[str, float]:
    return {key: figure.value, "error": figure.error}


def _statistics(asked: Asked, ours: Seen, other: Seen | None) -> dict[str, dict[str, float]]:
    """Figure → asked, made and real, as far as there are such."""
    told, made = asked.figures(), ours.statistics.figures()
    real = other.statistics.figures() if other else {}
    found = {name: {"made": made[name]} | ({"real": real[name]} if real else {}) for name in _SHARED}
    # Of all samples, not only of those looked at.
    found["changed_share"] |= {"asked": told["asked_share"], "made": told["made_share"]}
    found["met_share"] = {"made": told["met_share"]}
    found["events_per_step"] = {"made": told["events_per_step"]}
    return found


def _recorded(master: Master) -> list[dict[str, Any]]:
    statistics = master.manifest.get("statistics")
    found = statistics.get("transitions_px") if isinstance(statistics, Mapping) else None
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    classes = range(len(master.schema.names))
    keys = ("from_class", "to_class")
    return [row for row in rows if all(row.get(key) in classes for key in keys) and isinstance(row.get("asked"), int)]


def _plain(value: Any) -> Any:
    """A value as JSON holds it, figures at five digits; what is no number becomes null."""
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
