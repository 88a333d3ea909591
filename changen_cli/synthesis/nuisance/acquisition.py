"""One acquisition: everything that is drawn for a date before any pixel is touched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from changen_cli.core.nuisance import ASSUMED_GSD_M, NuisanceTable

_CUT = 2.0
_LARGEST_TAN = 0.6
_VEIL = 0.35
_LOCAL_M = 25.0


@dataclass(frozen=True)
class Acquisition:
    """What one date was drawn. The defaults are the source as it is.

    Lengths are in pixels of the tile: metres were divided by the ground sampling distance.

    Attributes:
        gain: Gain of red, green and blue.
        gamma: Exponent of the tone curve.
        saturation: Gain of the distance of colours from grey.
        haze: Share of the veil; negative where it is clearer than the source.
        field: Standard deviation of the log gain that varies over the tile.
        materials: Standard deviation of the log gain that depends on colour.
        season: State of the vegetation, twice: it varies over the tile between the two.
        local: Distance over which season and materials vary.
        shadow_depth: Depth of shadows over that of the source.
        shadow_shift: Rows and columns by which the ends of shadows move.
        lean: Rows and columns by which a point leans per metre of its height.
        shift: Rows and columns by which the content is misregistered.
        warp: Four entries of the affine map, less the identity, row by row.
        blur: Sigma of the point spread.
        resample: Ground sampling distance of the sensor over that of the tile.
        noise: Standard deviation of the noise in grey levels.
        jpeg: Quality of the compression; 100 is none.
        cloud: Largest opacity of thin cloud; 0 where there is none.
        cloud_shadow: Rows and columns from a cloud to its shadow.
        seed: Of the random fields.
    """

    gain: tuple[float, ...] = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    saturation: float = 1.0
    haze: float = 0.0
    field: float = 0.0
    materials: float = 0.0
    season: tuple[float, float] = (0.0, 0.0)
    local: float = 1.0
    shadow_depth: float = 1.0
    shadow_shift: tuple[float, float] = (0.0, 0.0)
    lean: tuple[float, float] = (0.0, 0.0)
    shift: tuple[float, float] = (0.0, 0.0)
    warp: tuple[float, ...] = (0.0,) * 4
    blur: float = 0.0
    resample: float = 1.0
    noise: float = 0.0
    jpeg: int = 100
    cloud: float = 0.0
    cloud_shadow: tuple[float, float] = (0.0, 0.0)
    seed: int = 0

    @property
    def moves(self) -> bool:
        """Whether it displaces anything."""
        return any((*self.lean, *self.shift, *self.warp))

    def record(self) -> dict[str, Any]:
        """The draw as a flat record of plain numbers, for the metadata of a sample."""
        names = {"gain": ("red", "green", "blue"), "season": ("low", "high"), "warp": ("rr", "rc", "cr", "cc")}
        flat: dict[str, Any] = {}
        for key, value in asdict(self).items():
            if key in ("seed", "local"):
                continue
            if isinstance(value, tuple):
                parts = names.get(key, ("row", "col"))
                flat |= {f"{key}_{part}": round(float(each), 5) for part, each in zip(parts, value, strict=True)}
            else:
                flat[key] = value if isinstance(value, int) else round(float(value), 5)
        return flat


def draw_acquisition(
    table: NuisanceTable, shape: tuple[int, int], gsd_m: float | None, rng: np.random.Generator
) -> Acquisition:
    """Draw one date.

    Args:
        table: Strengths.
        shape: Height and width of the tile.
        gsd_m: Its metres per pixel; 0.5 is taken where nobody knows.
        rng: Source of all randomness; what is drawn of it does not depend on the strengths.
    """

    def normals(scale: float, count: int) -> tuple[float, ...]:
        drawn = np.clip(rng.standard_normal(count), -_CUT, _CUT) * scale
        return tuple(float(value) for value in drawn)

    def pair(scale: float) -> tuple[float, float]:
        first, second = normals(scale, 2)
        return first, second

    def uniform(limits: tuple[float, float]) -> float:
        return float(limits[0] + (limits[1] - limits[0]) * rng.random())

    metre_px = 1 / (gsd_m or ASSUMED_GSD_M)
    overall, channels = normals(table.gain, 1)[0], normals(table.balance, 3)
    season, local = normals(table.season, 1)[0], abs(normals(table.season, 1)[0])
    lean = np.clip(pair(table.lean), -_LARGEST_TAN, _LARGEST_TAN) * metre_px
    corner_px = 2 / max(*shape, 2)
    cloudy, opacity, away = rng.random() < table.cloud, rng.uniform(0.15, 0.5), rng.uniform(-60, 60, 2) * metre_px
    return Acquisition(
        gain=tuple(float(np.exp(overall + channel)) for channel in channels),
        gamma=float(np.exp(normals(table.gamma, 1)[0])),
        saturation=float(np.exp(normals(table.saturation, 1)[0])),
        haze=float(np.clip(normals(table.haze, 1)[0], -_VEIL, _VEIL)),
        field=table.field,
        materials=table.materials,
        season=(season - local / 2, season + local / 2),
        local=_LOCAL_M * metre_px,
        shadow_depth=max(0.0, 1 + normals(table.shadow_depth, 1)[0]),
        shadow_shift=(normals(table.shadow_shift_m, 1)[0] * metre_px, normals(table.shadow_shift_m, 1)[0] * metre_px),
        lean=(float(lean[0]), float(lean[1])),
        shift=pair(table.shift_px),
        warp=normals(table.warp_px * corner_px / np.sqrt(2), 4),
        blur=uniform(table.blur_px),
        resample=uniform(table.resample),
        noise=uniform(table.noise),
        jpeg=round(uniform(table.jpeg)),
        cloud=float(opacity) if cloudy else 0.0,
        cloud_shadow=(float(away[0]), float(away[1])) if cloudy else (0.0, 0.0),
        seed=int(rng.integers(2**62)),
    )
