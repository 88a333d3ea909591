"""What a disaster does where: how hard it hits each building of a tile, and which state that brings.

The figures are choices of ours that give each disaster its usual pattern; none is fitted to records of damage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from changen_cli.core.damage import Disaster
from changen_cli.core.types import BoolArray
from changen_cli.events.regions import FloatArray

_GRID = 64  # cells along a tile's longer side; relief and water need no finer ones


@dataclass(frozen=True)
class Damage:
    """How buildings are damaged.

    Attributes:
        disaster: What hits them.
        rebuild: Share of the damaged buildings rebuilt per step.
        label_safe: Only destroy: of all states, one in which nothing is left to be seen is the only one that can be
            drawn without a model of damage.
    """

    disaster: Disaster = "wind"
    rebuild: float = 0.0
    label_safe: bool = False


@dataclass(frozen=True, eq=False)
class Site:
    """The buildings a disaster meets.

    Attributes:
        centres: float64 ``[N, 2]``, their centres (row, col), N >= 1.
        water: bool ``[H, W]``, water the mask knows of; all False where it knows none.
    """

    centres: FloatArray
    water: BoolArray

    @property
    def side_px(self) -> int:
        """The tile's longer side."""
        return int(max(self.water.shape))

    def noise(self, cells: int, rng: np.random.Generator) -> FloatArray:
        """Smooth noise of unit variance at the centres, float64 ``[N]``; it varies over ``side / cells``."""
        return _noise(self.centres * (cells / self.side_px), cells, rng)


def _noise(points: FloatArray, cells: int, rng: np.random.Generator) -> FloatArray:
    """Interpolate a lattice of normal draws at ``[N, 2]`` points within ``[0, cells]``."""
    lattice = rng.standard_normal((cells + 2, cells + 2))
    return np.asarray(ndimage.map_coordinates(lattice, points.T, order=3, mode="nearest"))


def wind(site: Site, rng: np.random.Generator) -> FloatArray:
    """A storm's track: a line over some building in any direction, with a Gaussian fall-off to both sides."""
    heading, width = rng.uniform(0, np.pi), rng.uniform(0.1, 0.25) * site.side_px
    over = site.centres[rng.integers(len(site.centres))]
    across = (site.centres - over) @ np.array([np.cos(heading), -np.sin(heading)])
    return np.asarray(np.exp(-0.5 * (across / width) ** 2))


def flood(site: Site, rng: np.random.Generator) -> FloatArray:
    """Water that rises from where it is, else from one side of the tile, over ground it can reach.

    The ground climbs away from the water, with hills on it. A hollow behind a ridge floods when the ridge does: what
    counts is the lowest level at which water finds a way.
    """
    cell = -(-site.side_px // _GRID)
    rows, cols = (-(-extent // cell) for extent in site.water.shape)
    source = np.zeros((rows, cols), dtype=bool)
    if site.water.any():
        starts = [np.arange(0, extent, cell) for extent in site.water.shape]
        source = np.logical_or.reduceat(np.logical_or.reduceat(site.water, starts[0], axis=0), starts[1], axis=1)
    else:
        np.rot90(source, int(rng.integers(4)))[0] = True  # a view: writes to one side
    places = np.argwhere(np.ones_like(source)) / max(rows, cols)
    hills = _noise(places * 4, 4, rng) + 0.5 * _noise(places * 10, 10, rng)
    away = ndimage.distance_transform_edt(~source) / max(rows, cols)
    level = _reached(hills.reshape(rows, cols) * 0.12 + away, source)
    return -np.asarray(ndimage.map_coordinates(level, (site.centres / cell - 0.5).T, order=1, mode="nearest"))


def _reached(ground: FloatArray, source: BoolArray) -> FloatArray:
    """The water level at which every cell floods: the lowest of the highest ground on all ways from the source."""
    level = np.where(source, ground.min(), np.inf)
    while True:
        padded = np.pad(level, 1, constant_values=np.inf)
        around = np.minimum(
            np.minimum(padded[:-2, 1:-1], padded[2:, 1:-1]), np.minimum(padded[1:-1, :-2], padded[1:-1, 2:])
        )
        found = np.minimum(level, np.maximum(ground, around))
        if (found == level).all():
            return np.asarray(found)
        level = found


def fire(site: Site, rng: np.random.Generator) -> FloatArray:
    """A front that runs from one building downwind, in ellipses, fast in some patches and slow in others."""
    wind_from = rng.uniform(0, 2 * np.pi)
    offset = site.centres - site.centres[rng.integers(len(site.centres))]
    distance = np.hypot(*offset.T)
    downwind = offset @ np.array([np.sin(wind_from), np.cos(wind_from)])
    arrival = (distance - 0.7 * downwind) / site.side_px
    return np.asarray(-np.log(arrival + 0.03) + 0.5 * site.noise(12, rng))


def earthquake(site: Site, rng: np.random.Generator) -> FloatArray:
    """Shaking that fades with the distance from an epicentre, on the tile or beside it, amplified by soft ground."""
    epicentre = rng.uniform(-0.5, 1.5, 2) * np.asarray(site.water.shape)
    distance = np.hypot(*(site.centres - epicentre).T) / site.side_px
    return np.asarray(-np.log(distance + 0.2) + 0.35 * site.noise(6, rng))


@dataclass(frozen=True)
class Profile:
    """A disaster.

    Attributes:
        strength: How hard it hits each building of a site, float64 ``[N]``; only the order and relative gaps count.
        scatter: How much buildings differ in what they withstand, in standard deviations of the strength.
        reach: Of the buildings hit, the shares that are brought to minor damage or worse, to major damage or worse,
            and destroyed: those hit hardest.
    """

    strength: Callable[[Site, np.random.Generator], FloatArray]
    scatter: float
    reach: tuple[float, float, float]


PROFILES: dict[Disaster, Profile] = {
    # Roofs before walls: all states, from the track outwards.
    "wind": Profile(wind, 0.4, (1.0, 0.5, 0.2)),
    # Water enters more often than it carries away.
    "flood": Profile(flood, 0.2, (1.0, 0.55, 0.08)),
    # What has caught fire rarely survives.
    "fire": Profile(fire, 0.2, (1.0, 0.92, 0.85)),
    # How a house is built counts nearly as much as where it stands.
    "earthquake": Profile(earthquake, 0.6, (1.0, 0.5, 0.25)),
}


def draw_turns(disaster: Disaster, site: Site, rng: np.random.Generator) -> FloatArray:
    """Draw a disaster over a site: the turn of every building to be hit.

    Args:
        disaster: Which profile.
        site: The buildings.
        rng: Source of all randomness.

    Returns:
        float64 ``[N]`` in (0, 1): the share of the buildings that are hit before it, its own half included.
    """
    profile = PROFILES[disaster]
    strength = profile.strength(site, rng)
    strength = (strength - strength.mean()) / max(float(strength.std()), 1e-9)
    strength = strength + profile.scatter * rng.standard_normal(len(strength))
    turns = np.empty(len(strength))
    turns[np.argsort(-strength, kind="stable")] = (np.arange(len(strength)) + 0.5) / len(strength)
    return turns
