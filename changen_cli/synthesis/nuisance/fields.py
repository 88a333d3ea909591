"""Random fields: what varies slowly over a tile."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

FloatArray = npt.NDArray[np.float32]


def child_rng(seed: int, purpose: int) -> np.random.Generator:
    """The generator of one random field of a date; ``purpose`` tells its fields apart."""
    return np.random.Generator(np.random.PCG64((seed, purpose)))


def enlarge(grid: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Interpolate a grid float32 ``[h, w]`` to a tile float32 ``[H, W]`` by cubic convolution."""
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC))


def smooth_field(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> FloatArray:
    """A field float32 ``[H, W]`` of about unit variance, with ``cells`` independent values along either side."""
    return enlarge(rng.standard_normal((cells, cells), dtype=np.float32), shape)


def fractal_field(shape: tuple[int, int], cells: int, octaves: int, rng: np.random.Generator) -> FloatArray:
    """A field float32 ``[H, W]`` with detail at ``octaves`` scales, each half as large and 0.6 as strong."""
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        total += np.float32(0.6**octave) * smooth_field(shape, cells * 2**octave, rng)
    return total
