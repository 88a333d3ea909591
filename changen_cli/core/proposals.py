"""What every way of proposing objects agrees on: the classes of its masks, and how large an object is."""

from __future__ import annotations

from changen_cli.core.types import ClassSchema

PROPOSALS = ClassSchema(("none", "object"), class_agnostic=True)
"""The classes of proposed masks: 0 where nothing was found, 1 some object."""

SMALLEST_PX = 64
LARGEST_SHARE = 0.05
"""Of the image, where sizes on the ground are not known: what is larger is ground more often than an object."""
SIZES_M2 = (9.0, 3600.0)
"""Where they are known: from 3 m by 3 m to 60 m by 60 m, …"""
_LARGEST_KNOWN_SHARE = 0.25
"""… if that leaves enough of the image to be ground."""


def object_sizes_px(image_px: int, gsd_m: float | None) -> tuple[float, float]:
    """The sizes objects have, in pixels.

    Args:
        image_px: Pixels of the image.
        gsd_m: Metres per pixel; None where it is not known.

    Returns:
        Smallest and largest area.
    """
    if not gsd_m:
        return SMALLEST_PX, LARGEST_SHARE * image_px
    least, most = (area_m2 / gsd_m**2 for area_m2 in SIZES_M2)
    return max(SMALLEST_PX, least), min(most, _LARGEST_KNOWN_SHARE * image_px)
