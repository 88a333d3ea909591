"""Objects in training images are looked for once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import picture

from changen_cli.training.proposals import KeptProposals


class Asked:
    """Finds one object, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, image: np.ndarray, gsd_m: float | None) -> np.ndarray:
        self.times += 1
        objects = np.zeros(image.shape[:2], np.int32)
        objects[4:12, 6:20] = 300
        return objects


def test_what_was_found_is_kept(tmp_path: Path) -> None:
    image = picture(0, 64)[0]
    asked = Asked()
    folder = tmp_path / "model" / "proposals"
    first = KeptProposals(asked, folder, 32)(image, None)
    later = KeptProposals(asked, folder, 32)  # another process, another day
    assert asked.times == 1
    again = later(image, None)
    assert asked.times == 1 and again.dtype == np.int32 and np.array_equal(first, again)
    later(image, 0.5)
    later(image[::-1].copy(), None)
    assert asked.times == 3, "another resolution or image is another question"
    assert len(list(folder.iterdir())) == 3


def test_a_damaged_file_is_found_again(tmp_path: Path) -> None:
    image, asked = picture(0, 64)[0], Asked()
    keep = KeptProposals(asked, tmp_path, 32)
    whole = keep(image, None)
    (path,) = tmp_path.iterdir()
    for content in (path.read_bytes()[:40], b"", b"no picture"):
        path.write_bytes(content)
        assert np.array_equal(keep(image, None), whole)
    assert asked.times == 4


def test_images_smaller_than_a_crop_cost_nothing(tmp_path: Path) -> None:
    asked = Asked()
    found = KeptProposals(asked, tmp_path / "proposals", 128)(picture(0, 64)[0], None)
    assert not found.any() and not asked.times and not (tmp_path / "proposals").exists()
