"""The quality gate: is a drawn sample fit to be kept, and if not, why?

Samples are judged as they were drawn, before their dates differ as acquisitions do: what that adds is wanted, and hides
faults. The numerical parts are in :mod:`changen_cli.synthesis.gate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import TYPE_CHECKING, Any

from changen_cli.core.landcover import OPENEARTHMAP, openearthmap_name
from changen_cli.core.recipe import Recipe
from changen_cli.core.recipe_sections import GateSection
from changen_cli.core.types import ChangeEvent, ClassSchema, MaskSeries, UInt8Array
from changen_cli.workflows.plans import Plan

if TYPE_CHECKING:
    from changen_cli.synthesis.gate import EventFigures, LabelCheck

FIGURES = ("seam", "saturated", "sharpness", "grain", "colour", "visible", "agreement")
BROKEN, AREA, INVISIBLE, AGREEMENT = "broken", "area", "invisible", "agreement"
_ALONE = "saturated"
"""One event that is a fault of the machine, and no matter of taste, is enough to reject a sample."""
_LOOKALIKES = (("building",), ("road", "developed"), ("water",), ("bareland",), ("rangeland", "tree", "agriculture"))
"""Classes of the segmenter that labels of others may mean by one word, such as vegetation."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of looking at a sample.

    Attributes:
        reason: Why it is rejected; empty where it is not.
        series: Its masks, and its events with their figures.
        info: Columns for its metadata.
        failed: Events that failed, whether or not that was enough to reject it.
    """

    reason: str
    series: MaskSeries
    info: dict[str, Any]
    failed: tuple[ChangeEvent, ...] = ()


def as_asked(plan: Plan, recipe: Recipe) -> bool:
    """Whether about as much changes in a sample as was asked for; told from its masks, before anything is drawn."""
    limit = recipe.gate.area
    asked = fsum(report.asked for report in plan.series.reports)
    if plan.negative or isinstance(limit, str) or not asked:
        return True
    return abs(fsum(report.reached for report in plan.series.reports) - asked) <= limit * asked


class Gate:
    """Judges samples by a recipe's limits.

    Args:
        section: The limits.
        labels: Looks up labels; None leaves that out.
    """

    def __init__(self, section: GateSection, labels: LabelCheck | None = None) -> None:
        self._section, self._labels = section, labels

    def judge(self, plan: Plan, images: UInt8Array) -> Verdict:
        """Look at all events of a sample.

        Args:
            plan: Its masks and events.
            images: uint8 ``[T, H, W, 3]``, as drawn.
        """
        from changen_cli.synthesis.gate import measure_step

        events: list[ChangeEvent] = []
        records: list[dict[str, Any]] = []
        failed: list[ChangeEvent] = []
        worst: tuple[float, str] = (0.0, "")
        series = plan.series
        for step in range(len(images) - 1):
            mine = [event for event in series.events if event.time_index == step]
            pieces = [_piece(event) for event in mine]
            masks, objects = series.masks[step : step + 2], series.instances[step + 1]
            found = measure_step(images[step], images[step + 1], masks, objects, pieces, self._labels)
            faults = [self._faults(figures) for figures in found]
            averages = _averages(mine, found)
            share, reason = _weigh(mine, found, faults)
            if self._disagrees(averages["agreement"]):
                share, reason = max((share, reason), (1.0, AGREEMENT))
            records.append({"step": step, **averages, "failed": round(share, 4)})
            if reason and (share > self._section.tolerance or reason == _ALONE):
                worst = max(worst, (share, reason))
            unlike = [figures is not None and self._disagrees(figures.agreement) for figures in found]
            failed += [
                event
                for event, fault, low in zip(mine, faults, unlike, strict=True)
                if fault or (low and reason == AGREEMENT)
            ]
            events += [
                replace(event, quality=figures.record()) if figures else event
                for event, figures in zip(mine, found, strict=True)
            ]
        return Verdict(worst[1], replace(series, events=tuple(events)), columns(plan, records), tuple(failed))

    def _disagrees(self, agreement: float | None) -> bool:
        """Whether labels and image disagree.

        Asked of a step as a whole: of real roofs, too, a segmenter misses one and finds the next.
        """
        limit = self._section.agreement
        return agreement is not None and not isinstance(limit, str) and agreement < limit

    def _faults(self, figures: EventFigures | None) -> list[str]:
        """What of an event is beyond its limit, in the order of :data:`FIGURES`."""
        if figures is None:
            return []
        found = []
        for name in FIGURES[:-1]:
            limit, value = getattr(self._section, name), getattr(figures, name)
            if isinstance(limit, str) or value is None:
                continue
            if name == "sharpness":
                bad = not 1 / limit <= value <= limit
            else:
                bad = value < limit if name == "visible" else value > limit
            found += [INVISIBLE if name == "visible" else name] if bad else []
        return found


def columns(plan: Plan, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Columns for the metadata of a sample that the gate let pass."""
    return {"attempt": plan.attempt, "rejected": ", ".join(plan.rejected), "quality": list(records)}


def _piece(event: ChangeEvent) -> Any:
    from changen_cli.exports.polygons import fill_polygon
    from changen_cli.synthesis.gate import Piece

    shape, box = fill_polygon(event.polygon)
    return Piece(box, shape, event.to_class)


def _weigh(
    events: Sequence[ChangeEvent], found: Sequence[EventFigures | None], faults: Sequence[Sequence[str]]
) -> tuple[float, str]:
    """Share of the changed area that failed, of what was measured; and the fault that most of it has."""
    measured = sum(event.area_px for event, figures in zip(events, found, strict=True) if figures)
    areas_px = Counter[str]()
    for event, fault in zip(events, faults, strict=True):
        for name in fault:
            areas_px[name] += event.area_px
    if not areas_px:
        return 0.0, ""
    share = sum(event.area_px for event, fault in zip(events, faults, strict=True) if fault) / measured
    reason = _ALONE if _ALONE in areas_px else max(areas_px, key=lambda name: areas_px[name])
    return share, reason


def _averages(events: Sequence[ChangeEvent], found: Sequence[EventFigures | None]) -> dict[str, Any]:
    """How many events of a step were measured, and the mean of every figure, by area."""
    measured = [(event.area_px, figures) for event, figures in zip(events, found, strict=True) if figures]
    averages: dict[str, Any] = {"measured": len(measured)}
    for name in FIGURES:
        known = [(area, value) for area, figures in measured if (value := getattr(figures, name)) is not None]
        total = sum(area for area, _ in known)
        averages[name] = round(fsum(area * value for area, value in known) / total, 3) if total else None
    return averages


def open_gate(recipe: Recipe, schema: ClassSchema, device: str) -> Gate:
    """The gate of a recipe.

    Args:
        recipe: The recipe.
        schema: The classes of the masks.
        device: Where the segmenter runs.

    Raises:
        ModelError: When the bundled segmenter cannot be read.
    """
    known = {} if recipe.gate.agreement == "none" else meanings(schema)
    if not known:
        return Gate(recipe.gate)
    from changen_cli.synthesis.gate import LabelCheck
    from changen_cli.synthesis.hub import BUNDLED, SEGMENTER
    from changen_cli.synthesis.segmenter import load_segmenter

    segmenter = load_segmenter(BUNDLED / f"{SEGMENTER}.safetensors").to(device)
    return Gate(recipe.gate, LabelCheck(segmenter.predict, known))


def meanings(schema: ClassSchema) -> dict[int, tuple[tuple[int, ...], bool]]:
    """What classes look like to the segmenter: one of its own classes, or for what is none of them no building.

    Damaged buildings are left out, which it never saw, and so is everything of which nobody knows what it is.
    """
    found: dict[int, tuple[tuple[int, ...], bool]] = {}
    building = (OPENEARTHMAP.index("building"),)
    if schema.class_agnostic:
        return found
    for index, name in enumerate(schema.names):
        meant = openearthmap_name(name)
        if index in schema.unknown_ids or index in schema.damage_ids[1:]:
            continue
        if meant is not None:
            group = next(group for group in _LOOKALIKES if meant in group)
            found[index] = (tuple(OPENEARTHMAP.index(other) for other in group), True)
        elif schema.building_id is not None:
            found[index] = (building, index in schema.building_ids)
    return found


def unknown_note(recipe: Recipe, schema: ClassSchema) -> str:
    """What people should know of labels that are not looked up; empty where some are."""
    if not recipe.gate.enabled or recipe.gate.agreement == "none" or meanings(schema):
        return ""
    return "quality gate: the segmenter knows none of the classes, so nobody looks whether labels are right"
