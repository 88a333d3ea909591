"""Attribute edits: regions, and parts of them, change class by a transition matrix."""

from __future__ import annotations

import math

import numpy as np

from changen_cli.core.landcover import openearthmap_name
from changen_cli.core.types import BoolArray, Box, TransitionReport
from changen_cli.events.budget import creation_size
from changen_cli.events.laying import MIRROR_SHARE, Laid, lay_any
from changen_cli.events.moves import edit_name, move_edge
from changen_cli.events.objects import removable
from changen_cli.events.parcels import OpenGround, Shape
from changen_cli.events.regions import FloatArray, crop, dilate, pad_box
from changen_cli.events.step import AIM, TOLERANCE, Step
from changen_cli.events.transitions import Demand, Transitions, drawable_classes

_MAX_SEEDS = 8  # places tried for one transition
_PARCEL_SHARE = (0.06, 0.35)  # of a step's target
_STRIP_PX = (600.0, 2500.0)
_CORE = 0.5  # room a plot needs on four sides of its middle, in square roots of the building's area
_NATURAL = frozenset({"bareland", "rangeland", "tree", "water"})  # nobody surveyed their outlines


def transition(step: Step) -> None:
    """Let edges move, and regions and parts of them change class, until the target is spent or nothing is open."""
    state, rules = step.state, step.rules
    assert rules.transitions is not None  # the rules see to it
    # Pixels of an instance change with it or not at all, whatever class a tree above them has.
    closed = step.closed | ((state.instances > 0) & ~step.built[state.mask])
    ground = OpenGround(state.mask, closed, state.edges)
    areas = ground.areas_px()
    drawable = drawable_classes(areas, rules.drawable)
    # A roof is copied whole: single pixels of roofs, even of the same tile, make no building.
    drawable[list(rules.schema.building_ids)] = bool(step.stock.exemplars)
    asked = np.zeros((256, 256))
    moves = [move for move in rules.transitions.moves if drawable[move.to]]
    budget_px = step.left_px
    for move in moves:
        asked[:, move.to] += move_edge(step, ground, move, move.share * budget_px)
    demand = Demand(rules.transitions, areas, drawable, step.left_px)
    while step.owes():
        pair = demand.draw(step.rng)
        if pair is None:
            break
        of, to = pair
        if step.built[of]:
            changed = _object_transition(step, of, to)
        elif to in rules.schema.building_ids:
            changed = _building_transition(step, ground, of, to)
        else:
            changed = _part_transition(step, ground, of, to)
        demand.account(pair, changed)
    for move in moves:
        if step.owes():
            move_edge(step, ground, move, step.left_px)
    step.transitions = _reports(step, asked + demand.asked_px)
    if not step.owes():
        return
    missing = {*demand.missing(drawable), *(move.to for move in rules.transitions.moves if not drawable[move.to])}
    names = [rules.schema.names[index] for index in sorted(missing)]
    if names:
        step.shortages.append(f"nothing shows {', '.join(names)} to draw it from")
    if not moves and not demand.asked_px.any():
        step.shortages.append("the transitions are about none of the classes that may still change")
    else:
        step.shortages.append(f"no region left for {step.left_px:.0f} px of transitions")


def _reports(step: Step, asked: FloatArray) -> tuple[TransitionReport, ...]:
    """What was asked for and reached, by pair of classes."""
    reached = np.zeros(asked.shape, dtype=np.int64)
    for event in step.events:
        if event.kind == "transition":
            reached[event.from_class, event.to_class] += event.area_px
    pairs = np.argwhere((asked > 0) | (reached > 0)).tolist()
    return tuple(TransitionReport(a, b, round(float(asked[a, b]), 1), int(reached[a, b])) for a, b in pairs)


def _object_transition(step: Step, of: int, to: int) -> int:
    """Let one whole building become another class; returns its pixels, 0 when none fits."""
    rows = removable(step)
    rows = rows[step.object_classes()[rows] == of]
    rows = rows[step.state.objects.areas_px[rows] <= step.left_px + TOLERANCE * step.target_px]
    return step.clear_object("transition", int(rows[step.rng.integers(rows.size)]), to) if rows.size else 0


def _part_transition(step: Step, ground: OpenGround, of: int, to: int) -> int:
    """Let a region, or part of one, become another class; returns its pixels, 0 when none was found."""
    rng, left_px, least_px = step.rng, step.left_px, step.rules.min_area_px
    most_px = left_px + TOLERANCE * step.target_px
    meaning = openearthmap_name(step.rules.schema.names[to])
    road = meaning == "road"
    shape: Shape = "strip" if road else "patch" if meaning in _NATURAL else "parcel"
    transitions = step.rules.transitions
    assert transitions is not None
    wanted_px = min(_size_px(step, transitions, road), left_px)
    grows = rng.random() < transitions.growth
    for attempt in range(_MAX_SEEDS):
        # What would remain to be changed must be enough for another event.
        wanted_px = left_px if left_px - wanted_px < least_px else wanted_px
        wanted_px = max(wanted_px, least_px)
        # Borders may have nothing left but slivers: then the new class appears elsewhere.
        at_border = grows and attempt < _MAX_SEEDS // 2
        seed = ground.seed(of, to if at_border else None, rng) or ground.seed(of, None, rng)
        if seed is None or wanted_px > most_px:
            return 0
        limits_px = (max(least_px, wanted_px / 2) if road else least_px, most_px)
        part = ground.cut(seed, wanted_px, limits_px, shape, rng)
        if part is not None:
            ground.take(*part)
            return step.change("transition", edit_name(step), 0, *part, to)
        wanted_px *= 0.7
    return 0


def _size_px(step: Step, transitions: Transitions, road: bool) -> float:
    """Draw the area of a part: by the matrix's own distribution, else by its shape and the step's target."""
    sizes = transitions.sizes_px or transitions.sizes_m2
    if sizes is not None:
        area = math.exp(step.rng.normal(math.log(sizes.median), math.log(sizes.spread)))
        return area if transitions.sizes_m2 is None else area / step.pixel_m() ** 2
    if road:
        return step.rng.uniform(*_STRIP_PX)
    return math.exp(step.rng.uniform(*np.log(_PARCEL_SHARE))) * step.target_px


def _building_transition(step: Step, ground: OpenGround, of: int, to: int) -> int:
    """Let a plot become a building: a real one, laid as a creation is, on ground of one class only."""
    rng, left_px, least_px = step.rng, step.left_px, step.rules.min_area_px
    blocked = ground.closed_to(of)
    room_px = left_px + AIM * step.target_px
    for _ in range(_MAX_SEEDS):
        choice = creation_size(step.stock, left_px, room_px, least_px, rng)
        if choice is None:
            return 0
        exemplar, scale = choice
        # Laying one is a hundred times the cost of a look at whether its middle would fit.
        seed = ground.seed(of, None, rng, round(_CORE * math.sqrt(exemplar.area_px) * scale))
        mirrored = bool(rng.random() < MIRROR_SHARE)
        laid = None
        if seed is not None:
            direction = step.neighbours.orientation(seed)
            laid = next(lay_any(np.array([seed]), exemplar, scale, mirrored, blocked, [direction]), None)
            laid = None if laid is None else laid.in_one_piece()
        fits = laid is not None and least_px <= laid.footprint.sum() <= left_px + TOLERANCE * step.target_px
        if laid is not None and fits and _stands_free(step, laid.box, laid.footprint):
            ground.take(laid.box, laid.footprint)
            return _found(step, to, laid)
        room_px = max(0.9 * exemplar.area_px * scale**2, least_px)  # try something smaller
    return 0


def _found(step: Step, to: int, laid: Laid) -> int:
    """Write a building that land became; it is an object from now on."""
    name, number = edit_name(step), 0
    if to == step.building:
        number = step.next_number()
        step.register(number, name, laid)
    return step.change("transition", name, number, laid.box, laid.footprint, to, laid.placement)


def _stands_free(step: Step, box: Box, footprint: BoolArray) -> bool:
    """Whether a new building keeps its distance from all others, those that go in this step too."""
    gap = step.rules.min_gap_px
    wide = pad_box(box, gap, step.mask.shape)
    grown = np.zeros((wide[2] - wide[0], wide[3] - wide[1]), dtype=bool)
    grown[box[0] - wide[0] : box[2] - wide[0], box[1] - wide[1] : box[3] - wide[1]] = footprint
    masks = np.stack([step.state.mask[crop(wide)], step.mask[crop(wide)]])
    return not (dilate(grown, gap) & np.isin(masks, step.rules.schema.building_ids)).any()
