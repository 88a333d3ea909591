"""How the objects around a site are turned."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from changen_cli.events.regions import FloatArray, ObjectTable

_NEAREST = 4
_RENEWED = 32


class Neighbours:
    """The objects of a step, found by place; new ones join them.

    Args:
        objects: The objects present.
    """

    def __init__(self, objects: ObjectTable) -> None:
        self._known = np.column_stack([objects.centres, objects.areas_px, objects.orientations_rad])
        self._recent: list[tuple[float, float, float, float]] = []
        self._tree = KDTree(self._known[:, :2]) if len(self._known) else None

    def add(self, row: float, col: float, area_px: float, orientation_rad: float) -> None:
        """Enter an object by its box's centre."""
        self._recent.append((row, col, area_px, orientation_rad))
        if len(self._recent) > max(_RENEWED, len(self._known) // 4):
            # The tree grows by a quarter at a time: building it anew stays linear in the objects.
            self._known = np.concatenate([self._known, np.asarray(self._recent)])
            self._tree, self._recent = KDTree(self._known[:, :2]), []

    def orientation(self, site: tuple[int, int]) -> float | None:
        """The prevailing direction around a site, or None without any object.

        The nearest objects vote with area over distance. The winner is the one most supported by the others, not their
        mean: between rows of houses at 0 and 45 degrees nothing stands at 22.
        """
        near = self._near(site)
        if not len(near):
            return None
        distance = np.hypot(*(near[:, :2] - site).T)
        near, distance = (values[np.argsort(distance, kind="stable")[:_NEAREST]] for values in (near, distance))
        angles = near[:, 3]
        support = np.cos(4 * (angles[:, None] - angles[None, :])) @ (near[:, 2] / (distance + 1.0))
        return float(angles[int(support.argmax())])

    def _near(self, site: tuple[int, int]) -> FloatArray:
        """Every object that may be among the nearest: float64 ``[n, 4]``, row, col, area and direction."""
        recent = np.asarray(self._recent, dtype=np.float64).reshape(-1, 4)
        if self._tree is None:
            return recent
        _, found = self._tree.query(site, k=min(_NEAREST, len(self._known)))
        return np.concatenate([self._known[np.atleast_1d(found)], recent])
