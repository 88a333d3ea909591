"""Proposals of training images, found once: finding them takes seconds a tile, and a run may be taken up again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from changen_cli.core.files import atomic_path
from changen_cli.core.types import Int32Array, UInt8Array
from changen_cli.sources.pseudo_masks import Proposer


class KeptProposals:
    """A proposer that keeps what it found, one 16-bit PNG per image, by the hash of the image.

    Args:
        propose: Finds the objects of one image.
        folder: Where they are kept; made when the first one is.
        least_px: Images with a shorter side are not looked at; they have no objects.
    """

    def __init__(self, propose: Proposer, folder: Path, least_px: int) -> None:
        self.propose, self.folder, self.least_px = propose, folder, least_px

    def __call__(self, image: UInt8Array, gsd_m: float | None) -> Int32Array:
        """Objects of one image, int32 ``[H, W]``; see :data:`~changen_cli.sources.pseudo_masks.Proposer`."""
        if min(image.shape[:2]) < self.least_px:
            return np.zeros(image.shape[:2], dtype=np.int32)
        name = hashlib.blake2b(f"{image.shape} {gsd_m} ".encode() + image.tobytes(), digest_size=16).hexdigest()
        path = self.folder / f"{name}.png"
        try:
            with Image.open(path, formats=("PNG",)) as kept:
                found = np.asarray(kept)
            if found.shape == image.shape[:2]:
                return found.astype(np.int32)
        except (OSError, SyntaxError):  # not there, or damaged: Pillow raises either
            pass
        objects = self.propose(image, gsd_m)
        with atomic_path(path) as partial:
            Image.fromarray(objects.astype(np.uint16)).save(partial)
        return objects
