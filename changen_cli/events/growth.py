"""Neighbourhood growth: rows of new buildings beside existing ones and roads, built in stages over several steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from changen_cli.core.landcover import openearthmap_name
from changen_cli.core.types import BoolArray, Box, Exemplar
from changen_cli.events.budget import creation_size
from changen_cli.events.laying import MIRROR_SHARE, Laid, lay_any
from changen_cli.events.objects import free_sites
from changen_cli.events.placement import SiteMap, lay
from changen_cli.events.regions import FloatArray, crop, dilate, pad_box
from changen_cli.events.step import AIM, TOLERANCE, Step
from changen_cli.events.transitions import drawable_classes

STAGES = (("cleared", "bareland"), ("foundation", "developed"), ("roof", "building"))
"""What a building site is called in the log, and the OpenEarthMap class it shows."""

StageClasses = tuple[int | None, ...]

_AT_ONCE = 0.5  # share of the sites that are finished within the step they begin in
_ROW = (3, 8)
_MAX_MISSES = 12
_ALIKE = (0.93, 1.07)  # houses of one row are of one kind
_PLOT_PX = (3, 8)
_PITCHES = 5


@dataclass(frozen=True, eq=False)
class Site:
    """A building under construction; it becomes an object with its roof.

    Attributes:
        name: Its id in the log, from the first stage on.
        laid: The building it will be.
        plot_box: Box of the plot.
        plot: bool ``[h, w]`` inside ``plot_box``, the ground cleared for it, the building's own included.
        done: Stages done, counted in :data:`STAGES`; stages the masks have no class for are passed over.
    """

    name: str
    laid: Laid
    plot_box: Box
    plot: BoolArray
    done: int = 0


def grow(step: Step) -> None:
    """Go on with the building sites, then begin rows of new ones until the target is spent or nothing more fits."""
    if not step.objects_can_change():
        named = step.building >= 0
        step.shortages.append("no class is free ground" if named else "no class is named like a building")
        return
    waiting = []
    classes = _stage_classes(step)
    for site in step.state.sites:
        site = _go_on(step, site, classes) if step.owes() else site
        waiting += [site] if site.done < len(STAGES) else []
    step.sites = [*waiting, *step.sites]
    if not step.stock.exemplars:
        step.shortages.append("the exemplar library is empty")
        return
    sites, misses, room_px = free_sites(step), 0, math.inf
    while step.owes() and misses < _MAX_MISSES:
        choice = _kind_of_house(step, room_px)
        if choice is None and math.isinf(room_px):
            break
        if choice is None:  # down to the smallest: start over with all sizes
            misses, room_px = misses + 1, math.inf
        elif _row(step, sites, *choice, classes):
            misses, room_px = 0, math.inf
        else:
            misses, room_px = misses + 1, 0.7 * choice[0].area_px * choice[1] ** 2
    step.shortages.append(
        "no free ground for another row of buildings"
        if misses
        else f"no exemplar fits the {step.left_px:.0f} px that remain"
    )


def _kind_of_house(step: Step, room_px: float) -> tuple[Exemplar, float] | None:
    """The exemplar of a row, and its size factor."""
    most_px = min(step.left_px + AIM * step.target_px, room_px)
    return creation_size(step.stock, step.left_px, most_px, step.rules.min_area_px, step.rng)


def _stage_classes(step: Step) -> StageClasses:
    """The class a site shows at each stage; None where the masks have none for it, or none that could be drawn."""
    schema = step.rules.schema
    counts = np.bincount(step.state.mask.ravel(), minlength=256)
    drawable = drawable_classes(counts.astype(np.float64), step.rules.drawable)
    found: list[int | None] = []
    for _, meaning in STAGES[:-1]:
        ids = [i for i in schema.ground_ids if openearthmap_name(schema.names[i]) == meaning and drawable[i]]
        found.append(ids[0] if ids else None)
    return (*found, schema.building_id)


def _go_on(step: Step, site: Site, classes: StageClasses) -> Site:
    """Bring a site to its next stage that changes anything, and log it."""
    while site.done < len(STAGES):
        stage, target = site.done, classes[site.done]
        site = replace(site, done=stage + 1)
        if stage == len(STAGES) - 1:
            _raise_roof(step, site)
            return site
        box, area = (site.plot_box, site.plot) if stage == 0 else (site.laid.box, site.laid.footprint)
        if target is None:
            continue
        area = area & (step.state.mask[crop(box)] != target)
        if area.sum() >= step.rules.min_area_px:
            step.change("grow", site.name, 0, box, area, target, stage=STAGES[stage][0])
            return site
    return site


def _raise_roof(step: Step, site: Site) -> None:
    number, laid = step.next_number(), site.laid
    step.register(number, site.name, laid)
    step.change("grow", site.name, number, laid.box, laid.footprint, step.building, laid.placement, STAGES[-1][0])


def _row(step: Step, sites: SiteMap, exemplar: Exemplar, scale: float, classes: StageClasses) -> int:
    """Begin a row as a real building of the tile stands, and go on from it to both sides; returns its buildings."""
    rng = step.rng
    mirrored = bool(rng.random() < MIRROR_SHARE)
    first = lay(exemplar, scale, sites, step.habits, rng, aligned=True)
    if first is None or not _affordable(step, first):
        return 0
    _begin(step, sites, first, classes)
    count, wanted = 1, int(rng.integers(*_ROW))
    along = _direction(step, sites, first)
    for direction in (along, -along):
        last: Laid | None = first
        while last is not None and count < wanted and step.owes():
            size = scale * math.exp(rng.uniform(*np.log(_ALIKE)))
            last = _next_in_row(step, sites, exemplar, size, mirrored, last, direction)
            if last is not None:
                _begin(step, sites, last, classes)
                count += 1
    return count


def _direction(step: Step, sites: SiteMap, first: Laid) -> FloatArray:
    """The unit vector (row, col) of a row: along the side of its first building that keeps the distance to a road."""
    angle = first.orientation_rad + math.pi / 2 * int(step.rng.integers(2))
    if sites.road_px is None:
        return _unit(angle)
    centre, side = _centre(first), 2 * math.sqrt(first.footprint.sum())

    def strays(direction: FloatArray) -> float:
        return sum(abs(sites.road_at(centre + sign * side * direction) - sites.road_at(centre)) for sign in (-1, 1))

    return min((_unit(angle), _unit(angle + math.pi / 2)), key=strays)


def _affordable(step: Step, laid: Laid) -> bool:
    return bool(step.rules.min_area_px <= laid.footprint.sum() <= step.left_px + TOLERANCE * step.target_px)


def _unit(angle_rad: float) -> FloatArray:
    """The unit vector (row, col) of a direction, counter-clockwise in (col, -row) axes."""
    return np.array([-math.sin(angle_rad), math.cos(angle_rad)])


def _centre(laid: Laid) -> FloatArray:
    """A laid building's centre (row, col)."""
    rows, cols = np.nonzero(laid.footprint)
    return np.array([laid.box[0] + rows.mean(), laid.box[1] + cols.mean()])


def _next_in_row(
    step: Step,
    sites: SiteMap,
    exemplar: Exemplar,
    scale: float,
    mirrored: bool,
    last: Laid,
    direction: FloatArray,
) -> Laid | None:
    """Lay the next building of a row, a usual gap from the last one; None where the row ends."""
    centre = _centre(last)
    rows, cols = np.nonzero(last.footprint)
    reach = ((rows + last.box[0] - centre[0]) * direction[0] + (cols + last.box[1] - centre[1]) * direction[1]).max()
    side = scale * math.sqrt(exemplar.area_px)
    # Further on it would be no row any more.
    gap_px = min(max(step.habits.draw(step.rng)[0], step.rules.min_gap_px + 1), side)
    farthest_px = step.habits.road_limit_px
    pitches = reach + gap_px + side * (0.35 + 0.15 * np.arange(_PITCHES))
    places = np.rint(centre + direction * pitches[:, None]).astype(np.int64)
    ends = ~((places >= 0) & (places < step.mask.shape)).all(axis=1)
    if sites.road_px is not None:
        ends |= [sites.road_at(place) > farthest_px + side for place in places]
    places = places[: int(ends.argmax())] if ends.any() else places
    directions = [last.orientation_rad] * len(places)
    fitting = lay_any(places, exemplar, scale, mirrored, sites.blocked, directions, step.habits.shadow_rad)
    laid = next(fitting, None)
    laid = None if laid is None else laid.in_one_piece()
    return laid if laid is not None and _affordable(step, laid) else None


def _begin(step: Step, sites: SiteMap, laid: Laid, classes: StageClasses) -> None:
    """Begin a site; some are finished within the step."""
    sites.occupy(laid)
    name = f"grow{step.state.time_index:02d}-{len(step.events):03d}-{len(step.sites):03d}"
    box = pad_box(laid.box, _PLOT_PX[1], step.mask.shape)
    plot = np.zeros((box[2] - box[0], box[3] - box[1]), dtype=bool)
    inner = np.s_[laid.box[0] - box[0] : laid.box[2] - box[0], laid.box[1] - box[1] : laid.box[3] - box[1]]
    plot[inner] = laid.footprint
    plot = dilate(plot, int(step.rng.integers(_PLOT_PX[0], _PLOT_PX[1] + 1)))
    free = step.ground[step.state.mask[crop(box)]] & (step.instances[crop(box)] == 0) & ~step.closed[crop(box)]
    plot &= free
    plot[inner] |= laid.footprint
    site = Site(name, laid, box, plot)
    if step.rng.random() < _AT_ONCE:
        _raise_roof(step, replace(site, done=len(STAGES)))
        return
    step.claim(box, plot)
    site = _go_on(step, site, classes)
    if site.done < len(STAGES):
        step.sites.append(site)
