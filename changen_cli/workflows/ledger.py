"""What a run used, skipped and made; from it the manifest, the dataset card and the closing line are written."""

from __future__ import annotations

import reprlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple

from changen_cli.core.errors import OutputError
from changen_cli.core.manifest import Manifest, ModelRecord
from changen_cli.core.recipe import Recipe
from changen_cli.core.shards import ShardRecord
from changen_cli.core.types import Scene, Skip, TimeSeries

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

REJECTED = "rejected by the quality gate"


def labels_note(recipe: Recipe, source: Source) -> str:
    """What the masks of a run are: labels of the source, or proposals, and by what."""
    if not source.schema.class_agnostic:
        return "labels of the source"
    section, record = recipe.source, proposals_record(source)
    method = f"Segment Anything, {section.sam_model}" if section.proposals == "sam" else "graph segmentation"
    by = f"{method}, licence {record.license}" if record else method
    return f"class-agnostic object proposals ({by}), not ground truth"


def proposals_record(source: Source) -> ModelRecord | None:
    """The model that proposes the objects of a source; None where none does."""
    record: ModelRecord | None = getattr(source.propose, "record", None)
    return record


def damage_facts(recipe: Recipe, drawn: bool) -> dict[str, Any]:
    """What a run does to buildings, for the manifest and for people; empty when nothing is damaged.

    Args:
        recipe: The recipe.
        drawn: Whether its model draws all states of damage.
    """
    section = recipe.events
    if section.disaster is None:
        return {}
    note = f"{section.disaster}; no-damage, minor-damage, major-damage and destroyed"
    if not drawn:
        synthesis = recipe.synthesis
        who = synthesis.model if synthesis.start == "noise" or synthesis.strength else "--strength 0"
        note = (
            f"{section.disaster}, label-safe; {who} cannot draw states of damage, so buildings only go from no-damage "
            "to destroyed, shown as no longer present; those damaged less stay no-damage"
        )
    return {"disaster": section.disaster, "rebuild": section.rebuild, "label_safe": not drawn, "note": note}


def scene_record(scene: Scene) -> dict[str, Any]:
    """A scene (tile) as the manifest lists it."""
    return {
        "id": scene.id,
        "group": scene.group,
        "path": scene.source_path,
        "height": scene.image.shape[0],
        "width": scene.image.shape[1],
        "crs": bool(scene.crs),
        "gsd_m": scene.gsd_m,
        "notes": scene.notes,
    }


def reading_notes(scene: Scene) -> list[str]:
    """What people should know of how a scene was read."""
    lines = []
    bands = scene.notes.get("bands", {})
    if bands.get("left_out"):
        lines.append(f"bands {bands['used']} are used, {bands['left_out']} left out")
    if scene.notes.get("stretch"):
        lines.append("values were stretched to 8 bits; the manifest holds the limits of every scene")
    return lines


def sample_note(sample: TimeSeries) -> dict[str, Any]:
    """What the statistics need of a sample; it is kept with its row."""
    # Attempts that were rejected before this one; samples of runs without a gate have no such key.
    attempts = {"attempts": [*filter(None, str(sample.info.get("rejected", "")).split(", "))]}
    attempts = attempts if attempts["attempts"] else {}
    if sample.info.get("negative"):
        return {"negative": True, **attempts}
    damage: dict[tuple[int, int], list[int]] = {}
    for event in (event for event in sample.events if event.kind == "damage"):
        sums_px = damage.setdefault((event.from_class, event.to_class), [0, 0])
        sums_px[0] += 1
        sums_px[1] += event.area_px
    pairs = [pair for report in sample.reports for pair in report.transitions]
    return attempts | {
        "events": dict(sorted(Counter(event.kind for event in sample.events).items())),
        "reached": [float(report.reached) for report in sample.reports],
        "met": sum(bool(report.met) for report in sample.reports),
        "damage": [[a, b, count, area] for (a, b), (count, area) in sorted(damage.items())],
        "transitions": [
            [int(pair.from_class), int(pair.to_class), float(pair.asked_px), int(pair.reached_px)] for pair in pairs
        ],
    }


def count_reasons(rejected: Iterable[Sequence[str]]) -> dict[str, int]:
    """Reason → dropped samples, by what was found last; most frequent first."""
    counts = Counter(reasons[-1] for reasons in rejected if reasons)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def noted_counts(statistics: Mapping[str, Any], name: str = "rejected") -> dict[str, int]:
    """Reason → how many, as a manifest notes it, whoever wrote that."""
    noted = statistics.get(name)
    found = noted.items() if isinstance(noted, dict) else ()
    return {str(reason): count for reason, count in found if type(count) is int}


def rejected_line(counts: Mapping[str, int], samples: int) -> str:
    """Dropped samples in one line, ``rejected 3 of 120: seam 2, invisible 1``; empty where there are none.

    Args:
        counts: How many, by reason.
        samples: Samples made.
    """
    total = sum(counts.values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    return f"rejected {total} of {samples + total}: {reasons}" if counts else ""


class Account(NamedTuple):
    """How much there is.

    Attributes:
        samples: Samples made.
        complete_images: Source images with which nothing is left to do.
        bytes: Size of the samples' files.
    """

    samples: int
    complete_images: int
    bytes: int


def account(records: Iterable[ShardRecord]) -> Account:
    """Add up the shards of a dataset, by number; of what several say about one image, the last counts."""
    made: set[str] = set()
    complete: set[str] = set()
    size = 0
    for record in records:
        made.update(record.samples)
        size += record.bytes
        for path, image in record.images.items():
            (complete.add if image.complete else complete.discard)(path)
    return Account(len(made), len(complete), size)


class Ledger:
    """Account of a dataset, added up from the records of its shards and the notes of its samples.

    No sum depends on the order: an interrupted run gives the figures of an unbroken one.

    Args:
        records: The shards, by number. Of what several say about one image or sample, the last counts.
        notes: One per sample, see :func:`sample_note`.

    Attributes:
        samples: Samples made.
        failed: Id → reason of the samples that could not be made.
        rejected: Id → why each attempt was rejected, of the samples that were dropped.
        complete_images: Source images with which nothing is left to do.
        bytes: Size of the samples' files.
    """

    def __init__(self, records: Iterable[ShardRecord], notes: Iterable[dict[str, Any]] = ()) -> None:
        self._scenes: dict[str, dict[str, Any]] = {}
        self._skips: dict[str, list[Skip]] = {}
        self._failed: dict[str, str] = {}
        rejected: dict[str, list[str]] = {}
        made: set[str] = set()
        self.bytes = 0
        complete: dict[str, bool] = {}
        for record in records:
            made.update(record.samples)
            self.bytes += record.bytes
            self._failed |= record.failed
            rejected |= record.rejected
            for path, image in record.images.items():
                complete[path] = image.complete
                for scene in image.scenes:
                    self._scenes[str(scene.get("id"))] = scene
                self._skips[path] = [Skip(path, skip.reason, skip.failed) for skip in image.skipped]
        self.samples, self.complete_images = len(made), sum(complete.values())
        # What failed is tried again, and may be rejected then; what was rejected is not.
        done = made | rejected.keys()
        self.failed = {name: reason for name, reason in sorted(self._failed.items()) if name not in done}
        self.rejected = {name: reasons for name, reasons in sorted(rejected.items()) if name not in made}
        self._notes = _Sums(notes)

    @property
    def scenes(self) -> list[dict[str, Any]]:
        """One record per scene (tile) used, by id."""
        return [scene for _, scene in sorted(self._scenes.items())]

    @property
    def skipped(self) -> list[Skip]:
        """What was not used, by path."""
        return [skip for _, skips in sorted(self._skips.items()) for skip in skips]

    @property
    def images(self) -> int:
        """Source images gone through."""
        return len(self._skips)

    @property
    def failed_images(self) -> int:
        """Source images that are broken."""
        return sum(any(skip.failed for skip in skips) for skips in self._skips.values())

    def statistics(self) -> dict[str, Any]:
        """Figures over all samples in which something was to change."""
        figures = self._notes.figures(reason for reasons in self.rejected.values() for reason in reasons)
        if self.rejected:
            figures["rejected"] = count_reasons(self.rejected.values())
        residuals_m = [rms for scene in self.scenes if (rms := _residual_m(scene)) is not None]
        if residuals_m:
            figures["georeference_fitted"] = {
                "scenes": len(residuals_m),
                "worst_rms_m": round(max(residuals_m), 4),
            }
        return figures

    def counts(self) -> dict[str, int]:
        """Figures of how much there is."""
        counts = {
            "samples": self.samples,
            "scenes": len(self._scenes),
            "skipped": len(self.skipped),
            "failed": self.failed_images,
        }
        counts |= {"failed_samples": len(self.failed)} if self.failed else {}
        return counts | ({"rejected_samples": len(self.rejected)} if self.rejected else {})

    def complete(self, manifest: Manifest) -> None:
        """Fill the manifest."""
        manifest.counts = self.counts()
        manifest.scenes = self.scenes
        manifest.skipped = [{"path": s.path, "reason": s.reason, "failed": s.failed} for s in self.skipped]
        manifest.skipped += [{"sample": name, "reason": reason, "failed": True} for name, reason in self.failed.items()]
        manifest.skipped += [
            {"sample": name, "reason": f"{REJECTED}: {', '.join(reasons)}", "failed": False}
            for name, reasons in self.rejected.items()
        ]
        manifest.statistics = self.statistics()


def _residual_m(scene: Mapping[str, Any]) -> float | None:
    """Residual of a scene's fitted georeference; None where there is none."""
    notes = scene.get("notes")
    fit = notes.get("georeference") if isinstance(notes, dict) else None
    residual = fit.get("rms_m") if isinstance(fit, dict) else None
    return float(residual) if isinstance(residual, int | float) else None


class _Sums:
    """The notes of all samples, added up."""

    def __init__(self, notes: Iterable[dict[str, Any]]) -> None:
        self._events: Counter[str] = Counter()
        self._shares = array("d")
        self._negatives = self._met = 0
        self._transitions: dict[tuple[int, int], tuple[list[float], list[int]]] = {}
        self._damage: dict[tuple[int, int], list[int]] = {}
        self._attempts: Counter[str] = Counter()
        for note in notes:
            try:
                self._add(note)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                text = f"a row of a shard holds a note that no run wrote: {reprlib.repr(note)}"
                raise OutputError(text, "Make the dataset again: --mode overwrite") from None

    def _add(self, note: dict[str, Any]) -> None:
        self._attempts.update(note.get("attempts", ()))
        if note.get("negative"):
            self._negatives += 1
            return
        self._events.update(note["events"])
        self._shares.extend(note["reached"])
        self._met += note["met"]
        for a, b, count, area in note["damage"]:
            sums_px = self._damage.setdefault((a, b), [0, 0])
            sums_px[0] += count
            sums_px[1] += area
        for a, b, asked, reached in note["transitions"]:
            asked_px, reached_px = self._transitions.setdefault((a, b), ([], []))
            asked_px.append(asked)
            reached_px.append(reached)

    def figures(self, dropped: Iterable[str] = ()) -> dict[str, Any]:
        """The sums.

        Args:
            dropped: Why attempts at samples were rejected of which nothing came.
        """
        steps = len(self._shares)
        figures: dict[str, Any] = {
            "events": dict(sorted(self._events.items())),
            "negatives": self._negatives,
            "steps": steps,
            "steps_with_asked_area": self._met,
            # fsum rounds once, at the end: the order of the samples is not in the result.
            "changed_share_mean": round(fsum(self._shares) / steps, 5) if steps else 0.0,
        }
        attempts = self._attempts + Counter(dropped)
        if attempts:
            figures["rejected_attempts"] = dict(sorted(attempts.items()))
        if self._transitions:
            figures["transitions_px"] = [
                {"from_class": a, "to_class": b, "asked": round(fsum(asked)), "reached": sum(reached)}
                for (a, b), (asked, reached) in sorted(self._transitions.items())
            ]
        if self._damage:
            figures["damage"] = [
                {"from_class": a, "to_class": b, "events": count, "area_px": area}
                for (a, b), (count, area) in sorted(self._damage.items())
            ]
        return figures
