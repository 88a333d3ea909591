"""The land-cover classes models know: OpenEarthMap's eight (Xia et al., WACV 2023), and names that mean them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from changen_cli.core.damage import DAMAGE_STATES

OPENEARTHMAP = ("bareland", "rangeland", "developed", "road", "tree", "water", "agriculture", "building")
"""OpenEarthMap's classes in its order; their published ids are 1 to 8."""

# From particular to general: "agricultural land" is agriculture before it is land.
_WORDS: tuple[tuple[str, frozenset[str]], ...] = (
    ("building", frozenset({"building", "buildings", "house", "houses", "roof", "roofs"})),
    ("road", frozenset({"road", "roads", "street", "streets", "highway", "asphalt"})),
    ("water", frozenset({"water", "river", "rivers", "lake", "lakes", "sea", "ocean", "pool", "pools"})),
    ("agriculture", frozenset({"agriculture", "agricultural", "crop", "crops", "cropland", "farmland", "farm"})),
    ("tree", frozenset({"tree", "trees", "forest", "forests", "woodland", "wood"})),
    (
        "rangeland",
        frozenset({"rangeland", "grass", "grassland", "meadow", "pasture", "shrub", "shrubs", "vegetation", "lawn"}),
    ),
    (
        "developed",
        frozenset({"developed", "impervious", "paved", "pavement", "parking", "urban", "built", "concrete"}),
    ),
    ("bareland", frozenset({"bareland", "bare", "barren", "soil", "sand", "desert", "land", "unpaved"})),
)
_NEGATIONS = frozenset({"no", "non", "not", "background", "other", "others", "mixed"})


def openearthmap_name(name: str) -> str | None:
    """Return the OpenEarthMap class a class name means, or None when it is none of them or not clear.

    Args:
        name: Any class name, e.g. ``"Low vegetation"`` or ``"agriculture land"``.
    """
    if name.lower() == DAMAGE_STATES[0]:
        return "building"
    words = set(re.split(r"[^a-z]+", name.lower()))
    if words & _NEGATIONS:
        return None
    if "high" in words and "vegetation" in words:
        return "tree"
    return next((target for target, known in _WORDS if words & known), None)


def class_number(name: str, classes: Sequence[str]) -> int | None:
    """Find a class among those of a model: by its own name, else by the OpenEarthMap class it means.

    Args:
        name: Class name of a mask.
        classes: The model's class names.

    Returns:
        Index into ``classes``, or None when the model does not know the class.
    """
    known = [other.lower() for other in classes]
    for candidate in (name.lower(), openearthmap_name(name)):
        if candidate in known:
            return known.index(candidate)
    return None
