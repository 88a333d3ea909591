"""Strengths are learned from pairs, whatever else is in the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from changen_cli.core.errors import IncompleteError, OutputError, UsageError
from changen_cli.core.nuisance import load_nuisance
from changen_cli.core.seeding import derive_rng
from changen_cli.synthesis.nuisance import acquire, draw_acquisition
from changen_cli.workflows.nuisance_fit import find_pairs, fit_nuisance

KNOWN = load_nuisance(
    {"gain": 0.12, "balance": 0.03, "haze": 0.06, "shift_px": 0.6, "blur_px": [0.3, 0.7], "noise": [1, 3]}
)


def ground(place: int, size: int = 160) -> np.ndarray:
    """Blocks of many colours with texture, as a town has."""
    rng = np.random.default_rng(place)
    colours = rng.uniform(50, 190, (size // 16, size // 16, 1)) + rng.normal(0, 12, (size // 16, size // 16, 3))
    image = np.kron(colours, np.ones((16, 16, 1))) + ndimage.gaussian_filter(
        rng.normal(0, 25, (size, size, 3)), (1, 1, 0)
    )
    return np.clip(image, 5, 250).astype(np.uint8)


def write(folder: Path, places: int = 30) -> None:
    """Pairs that differ as KNOWN says; a sixth of every later date really changed."""
    for place in range(places):
        for year in (2016, 2020):
            rng = derive_rng(1, place, year)
            scene = ground(place)
            if year == 2020:
                scene[:64, :64] = ground(place + 1000)[:64, :64]
            path = folder / str(year) / f"p_{year}_{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(acquire(scene, draw_acquisition(KNOWN, scene.shape[:2], None, rng))).save(path)


def test_what_was_drawn_is_found_again_beside_real_change(tmp_path) -> None:
    write(tmp_path / "in")
    Image.fromarray(ground(1)).save(tmp_path / "in/2016/alone.png")
    (tmp_path / "in/masks").mkdir()
    Image.fromarray(ground(1)).save(tmp_path / "in/masks/p_2016_1.png")
    (tmp_path / "in/2020/p_2020_29.png").write_bytes(b"no image")
    found = fit_nuisance([tmp_path / "in"], output=tmp_path / "fit.yaml")
    assert (found.pairs, len(found.skipped), found.unlike) == (29, 1, 0)
    for key in ("gain", "balance", "haze", "shift_px"):
        assert getattr(found.table, key) == pytest.approx(getattr(KNOWN, key), rel=0.5), key
    assert 0.45 < found.table.blur_px[1] < 1.2
    assert found.table.shift_px < 1
    assert found.table.jpeg == load_nuisance("realistic").jpeg, "nobody measured it"
    assert load_nuisance(str(tmp_path / "fit.yaml")) == found.table
    with pytest.raises(OutputError, match="exists already"):
        fit_nuisance([tmp_path / "in"], output=tmp_path / "fit.yaml")


def test_images_of_one_place_are_found_by_name(tmp_path) -> None:
    names = (
        "a/x.png", "b/x.png", "naip_chico_2016_12.jpg", "naip_chico_2020_12.jpg", "naip_chico_2020_13.jpg",
        "sea_2018-06-01_4.tif", "sea_20200715_4.tif", "flood_pre_disaster.png", "flood_post_disaster.png", "labels/x.png",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {tuple(path.relative_to(tmp_path).as_posix() for path in pair) for pair in find_pairs([tmp_path])}
    assert {tuple(sorted(pair)) for pair in found} == {names[:2], names[2:4], names[5:7], names[8:6:-1]}


def test_folders_without_pairs_are_told(tmp_path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        fit_nuisance([tmp_path / "none"])
    with pytest.raises(UsageError, match="no two images show one place"):
        fit_nuisance([tmp_path])
    for folder, place in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        Image.fromarray(ground(place)).save(tmp_path / folder / "x.png")
    with pytest.raises(IncompleteError, match="none of 1 pairs"):
        fit_nuisance([tmp_path])
