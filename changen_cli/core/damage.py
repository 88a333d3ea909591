"""The scale on which buildings are damaged, and the disasters that lead down it."""

from __future__ import annotations

from typing import Literal

DAMAGE_STATES = ("no-damage", "minor-damage", "major-damage", "destroyed")
"""xBD's joint damage scale (Gupta et al., CVPR Workshops 2019); ids 1 to 4 of its masks."""

Disaster = Literal["wind", "flood", "fire", "earthquake"]
