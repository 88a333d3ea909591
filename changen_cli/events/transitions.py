"""Which class becomes which: a transition matrix on the classes of one folder, and what a step owes to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from changen_cli.core.errors import UsageError
from changen_cli.core.landcover import OPENEARTHMAP, class_number, openearthmap_name
from changen_cli.core.transitions import BoundaryMove, PartSizes, TransitionTable, nearest
from changen_cli.core.types import BoolArray, ClassSchema
from changen_cli.events.regions import FloatArray

FEWEST_PIXELS = 400
"""Pixels of a class a tile must show for others to become it: fewer give nothing to draw it from."""


_MAX_FAILURES = 4


@dataclass(frozen=True)
class EdgeMove:
    """The edge of a class that moves, on the class ids of one schema.

    Attributes:
        edge: The class whose edge moves.
        over: The classes that give way: those it advances over, or itself.
        to: What they become: the class, or the one it gives way to.
        distance_m: Least and largest distance in metres.
        share: Share of the step's area, in (0, 1].
    """

    edge: int
    over: tuple[int, ...]
    to: int
    distance_m: tuple[float, float]
    share: float

    @property
    def advances(self) -> bool:
        """Whether the class grows."""
        return self.to == self.edge


@dataclass(frozen=True, eq=False)
class Transitions:
    """A transition matrix on the class ids of one schema.

    Attributes:
        rates: float64 ``[256, 256]``, row = from, column = to, share per step in [0, 1]; zero on the diagonal and for
            unknown classes.
        growth: Share of the parts that begin beside their new class.
        moves: Edges that move.
        boost: How much pairs of which one class is rare are raised, 0 to 1.
        sizes_px: Areas of the parts that change, in pixels; None leaves them to the step's target.
        sizes_m2: The same in square metres.
    """

    rates: FloatArray
    growth: float
    moves: tuple[EdgeMove, ...] = ()
    boost: float = 0.0
    sizes_px: PartSizes | None = None
    sizes_m2: PartSizes | None = None

    @property
    def targets(self) -> frozenset[int]:
        """Classes that others may become."""
        return frozenset(np.flatnonzero(self.rates.any(axis=0)).tolist()) | {move.to for move in self.moves}


def resolve_transitions(table: TransitionTable, schema: ClassSchema) -> Transitions:
    """Match a table's names with a schema's: by the same name, else by the OpenEarthMap class both mean.

    Several classes that mean one row all follow it; several that mean one column share its rate. Classes the schema
    does not have are passed over, so that a preset serves many folders.

    Args:
        table: Rates by name.
        schema: The classes of the masks.

    Raises:
        UsageError: A name means no class anybody knows, naming the nearest; or nothing in the table can happen between
            the schema's classes.
    """
    ids = _matching_ids(table, schema)
    rates = np.zeros((256, 256))
    for source, row in table.rates.items():
        for target, rate in row.items():
            for index in ids[source]:
                rates[index, ids[target]] += rate / max(1, len(ids[target]))
    np.fill_diagonal(rates, 0.0)
    moves = tuple(found for move in table.moves for found in _resolve_move(move, ids, schema, table.name))
    if not rates.any() and not moves:
        raise UsageError(
            f"transitions {table.name}: none of them is between classes of these masks ({', '.join(schema.names)})",
            "Name the classes with --classes, or write a matrix for them",
        )
    return Transitions(rates, table.growth, moves, table.boost, table.sizes_px, table.sizes_m2)


def _matching_ids(table: TransitionTable, schema: ClassSchema) -> dict[str, list[int]]:
    """The schema's classes of every name in a table."""
    used = [*table.rates, *(target for row in table.rates.values() for target in row)]
    for move in table.moves:
        used += [move.class_name, *move.over, *([move.retreat_to] if move.retreat_to else [])]
    names = list(dict.fromkeys(used))
    own = tuple(name.lower() for name in schema.names)
    for name in names:
        if name.lower() not in own and openearthmap_name(name) is None:
            near = nearest(name, (*own, *OPENEARTHMAP))
            raise UsageError(f"transitions {table.name}: unknown class {name}{near}", f"Classes: {', '.join(own)}")
    damaged = {schema.names[index].lower() for index in schema.damage_ids[1:]}
    for target in (target for row in table.rates.values() for target in row if target.lower() in damaged):
        raise UsageError(f"transitions {table.name}: nothing becomes {target} by a rate", "Use --events damage for it")
    meant = [openearthmap_name(name) or name for name in names]
    ids: dict[str, list[int]] = {name: [] for name in names}
    for index, name in enumerate(schema.names):
        if index in (*schema.unknown_ids, schema.ignore_index):
            continue
        number = class_number(name, names)
        number = class_number(name, meant) if number is None else number
        if number is not None:
            ids[names[number]].append(index)
    return ids


def _resolve_move(move: BoundaryMove, ids: dict[str, list[int]], schema: ClassSchema, table: str) -> Iterator[EdgeMove]:
    """A move once for every class that its names mean; they share its share."""
    over = {index for name in move.over for index in ids[name]}
    targets = ids[move.retreat_to] if move.retreat_to else []
    edges = ids[move.class_name]
    if {*edges, *over, *targets} & set(schema.building_ids):
        raise UsageError(
            f"transitions {table}: moves of {move.class_name}: buildings have no edge that moves",
            "They change as a whole, by rates",
        )
    for edge in edges:
        pairs: list[tuple[tuple[int, ...], int]] = [((edge,), to) for to in targets if to != edge]
        if not targets and over - {edge}:
            pairs = [(tuple(sorted(over - {edge})), edge)]
        for gives, to in pairs:
            yield EdgeMove(edge, gives, to, move.distance_m, move.share / (len(edges) * len(pairs)))


class Demand:
    """What a step owes to the matrix, in pixels per pair of classes.

    Pairs are drawn in proportion to what is still owed to them. The first draw so follows the matrix, and the later
    ones bring the areas, not only the counts, near it.

    Attributes:
        asked_px: float64 ``[256, 256]``, area asked for: rate times open area, times the frequency of the rarer class
            to the power of minus ``boost``, scaled to the step's budget.
        reached_px: float64 ``[256, 256]``, area changed so far.
    """

    def __init__(self, transitions: Transitions, open_px: FloatArray, drawable: BoolArray, budget_px: float) -> None:
        """Share a budget out.

        Args:
            transitions: The matrix.
            open_px: ``[256]``, pixels of every class that may change.
            drawable: bool ``[256]``, classes others may become.
            budget_px: Area to change.
        """
        # A class that others alone show is no rarer than one just shown often enough to be drawn.
        frequency = np.maximum(open_px, FEWEST_PIXELS) / max(float(open_px.sum()), 1.0)
        rarer = np.minimum(frequency[:, None], frequency[None, :])
        weights = transitions.rates * open_px[:, None] * rarer**-transitions.boost
        self.asked_px = weights * (budget_px / max(float(weights.sum()), 1e-9))
        self.reached_px = np.zeros_like(self.asked_px)
        self._failures = np.zeros(weights.shape, dtype=np.int64)
        self._possible = (weights > 0) & drawable[None, :]

    def draw(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Draw the next ``(from, to)``, or None when nothing can happen any more."""
        pairs = np.argwhere(self._possible)
        if not len(pairs):
            return None
        rows, cols = pairs.T
        # A pair that got its share may still take what others cannot: a little weight is left to it.
        owed = np.maximum(self.asked_px[rows, cols] - self.reached_px[rows, cols], 1e-3 * self.asked_px[rows, cols])
        index = int(np.searchsorted(np.cumsum(owed), rng.random() * owed.sum(), side="right"))
        return int(rows[min(index, len(pairs) - 1)]), int(cols[min(index, len(pairs) - 1)])

    def account(self, pair: tuple[int, int], area_px: int) -> None:
        """Note what became of a pair; one for which nothing was found a few times is not drawn again."""
        self.reached_px[pair] += area_px
        if not area_px:
            self._failures[pair] += 1
            self._possible[pair] = self._failures[pair] < _MAX_FAILURES

    def missing(self, drawable: BoolArray) -> list[int]:
        """Classes that were asked for but cannot be drawn."""
        return [int(index) for index in np.flatnonzero((self.asked_px.sum(axis=0) > 0) & ~drawable)]


def drawable_classes(class_px: FloatArray, elsewhere: Collection[int]) -> BoolArray:
    """Classes there are pixels to draw from: in the tile itself, or in other scenes; bool ``[256]``."""
    found = np.asarray(class_px >= FEWEST_PIXELS)
    found[list(elsewhere)] = True
    return found
