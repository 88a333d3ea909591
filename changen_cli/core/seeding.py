"""Seeds derived by hashing, so that order, batch size, workers and resume change nothing.

A global random generator is never used: the draw of one date of one sample depends on its name only.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """Hash a run seed and a path of names into an independent 63-bit seed.

    Args:
        seed: The recipe's seed.
        *names: What the draw is for, e.g. scene id, variant, date, purpose.

    Returns:
        An integer in [0, 2**63), usable by numpy and torch generators.
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def derive_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return a numpy generator seeded with :func:`derive_seed`."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))
