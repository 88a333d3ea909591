"""What a run used, skipped and made; from it the manifest, the dataset card and the closing line are written."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from changen_cli.core.manifest import Manifest, ModelRecord
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import Scene, Skip, TimeSeries

if TYPE_CHECKING:
    from changen_cli.sources.folder import Source

UNCHANGED = {
    "exact": "bit-identical to date 0 outside the redrawn areas; |A-B| gives the change away",
    "reacquired": "every date, date 0 too, passed through its own draw of optics, gain and sensor noise",
}


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


class Ledger:
    """Running account of one run.

    :meth:`add` is called by the writing thread, everything else by the main one.

    Attributes:
        scenes: One record per scene (tile) used, as the manifest lists it.
        skipped: Scenes that were not used.
        samples: Samples written.
    """

    def __init__(self) -> None:
        self.scenes: list[dict[str, Any]] = []
        self.skipped: list[Skip] = []
        self.samples = self.negatives = 0
        self._ids: set[str] = set()
        self._used: set[str] = set()
        self._unused: set[str] = set()
        self._failed: set[str] = set()
        self._told: set[str] = set()
        self._events: Counter[str] = Counter()
        self._shares: list[float] = []
        self._met = 0
        self._transitions: dict[tuple[int, int], list[float]] = {}
        self._damage: dict[tuple[int, int], list[int]] = {}
        self._residuals_m: list[float] = []

    def use(self, scene: Scene) -> list[str]:
        """Note a scene; returns lines about how it was read that nobody was told yet."""
        if scene.id in self._ids:
            return []
        self._ids.add(scene.id)
        self._used.add(scene.source_path)
        self.scenes.append(
            {
                "id": scene.id,
                "group": scene.group,
                "path": scene.source_path,
                "height": scene.image.shape[0],
                "width": scene.image.shape[1],
                "crs": bool(scene.crs),
                "gsd_m": scene.gsd_m,
                "notes": scene.notes,
            }
        )
        residual = scene.notes.get("georeference", {}).get("rms_m")
        if residual is not None:
            self._residuals_m.append(float(residual))
        lines = []
        bands = scene.notes.get("bands", {})
        if bands.get("left_out"):
            lines.append(f"bands {bands['used']} are used, {bands['left_out']} left out")
        if scene.notes.get("stretch"):
            lines.append("values were stretched to 8 bits; the manifest holds the limits of every scene")
        new = [line for line in lines if line not in self._told]
        self._told.update(new)
        return [f"{line} (first in {scene.source_path})" for line in new]

    def skip(self, skip: Skip) -> None:
        """Note a scene that cannot be used."""
        self.skipped.append(skip)
        self._unused.add(skip.path)
        if skip.failed:
            self._failed.add(skip.path)

    def add(self, sample: TimeSeries) -> None:
        """Note a written sample."""
        self.samples += 1
        if sample.info.get("negative"):
            self.negatives += 1
            return
        self._events.update(event.kind for event in sample.events)
        self._shares += [report.reached for report in sample.reports]
        self._met += sum(report.met for report in sample.reports)
        for event in (event for event in sample.events if event.kind == "damage"):
            sums_px = self._damage.setdefault((event.from_class, event.to_class), [0, 0])
            sums_px[0] += 1
            sums_px[1] += event.area_px
        for pair in (pair for report in sample.reports for pair in report.transitions):
            sums = self._transitions.setdefault((pair.from_class, pair.to_class), [0.0, 0.0])
            sums[0] += pair.asked_px
            sums[1] += pair.reached_px

    @property
    def images_done(self) -> int:
        """Source images gone through."""
        return len(self._used | self._unused)

    @property
    def failed_images(self) -> int:
        """Source images that are broken."""
        return len(self._failed)

    def statistics(self) -> dict[str, Any]:
        """Figures over all samples in which something was to change."""
        steps = len(self._shares)
        figures: dict[str, Any] = {
            "events": dict(sorted(self._events.items())),
            "negatives": self.negatives,
            "steps": steps,
            "steps_with_asked_area": self._met,
            "changed_share_mean": round(float(np.mean(self._shares)), 5) if steps else 0.0,
        }
        if self._transitions:
            figures["transitions_px"] = [
                {"from_class": a, "to_class": b, "asked": round(asked), "reached": round(reached)}
                for (a, b), (asked, reached) in sorted(self._transitions.items())
            ]
        if self._damage:
            figures["damage"] = [
                {"from_class": a, "to_class": b, "events": count, "area_px": area}
                for (a, b), (count, area) in sorted(self._damage.items())
            ]
        if self._residuals_m:
            figures["georeference_fitted"] = {
                "scenes": len(self._residuals_m),
                "worst_rms_m": round(max(self._residuals_m), 4),
            }
        return figures

    def complete(self, manifest: Manifest) -> None:
        """Fill the manifest."""
        manifest.counts = {
            "samples": self.samples,
            "scenes": len(self.scenes),
            "skipped": len(self.skipped),
            "failed": self.failed_images,
        }
        manifest.scenes = self.scenes
        manifest.skipped = [{"path": s.path, "reason": s.reason, "failed": s.failed} for s in self.skipped]
        manifest.statistics = self.statistics()
