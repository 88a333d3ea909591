"""Real change sets in the layouts they are published in, and which of their pairs are looked at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import UsageError
from changen_cli.core.types import Skip
from changen_cli.workflows.image_pairs import ImagePair, ImagePairs, open_real_pairs
from tests.hub.datasets import write_dataset

CHANGE = np.zeros((40, 50), bool)
CHANGE[5:15, 10:30] = True


def put(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def images(root: Path, first: str, second: str, stem: str = "1") -> None:
    for folder in (first, second):
        rng = np.random.default_rng([*f"{folder}{stem}".encode()])
        put(root / folder / f"{stem}.png", rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))


def only(pairs: ImagePairs) -> ImagePair:
    found = [pair for number in range(pairs.count) for pair in pairs.read(number)]
    assert len(found) == 1 and isinstance(found[0], ImagePair)
    return found[0]


def levir(root: Path) -> str:
    images(root / "train", "A", "B")
    put(root / "train" / "label" / "1.png", CHANGE * np.uint8(255))
    return "levir-cd"


def levir_of_ones(root: Path) -> str:
    images(root, "A", "B")
    put(root / "label" / "1.png", CHANGE.astype(np.uint8))
    return "levir-cd"


def s2looking(root: Path) -> str:
    images(root / "val", "Image1", "Image2")
    soft = np.where(CHANGE, 250, 4).astype(np.uint8)
    put(root / "val" / "label" / "1.png", soft)
    return "s2looking"


def second(root: Path) -> str:
    images(root, "im1", "im2")
    for folder, colour in (("label1", (0, 128, 0)), ("label2", (128, 0, 0))):
        put(root / folder / "1.png", np.where(CHANGE[..., None], np.uint8(colour), np.uint8(255)))
    return "second"


def changen2(root: Path) -> str:
    images(root, "t1_images", "t2_images")
    put(root / "t1_masks" / "1.png", np.zeros(CHANGE.shape, np.uint8))
    put(root / "t2_masks" / "1.png", CHANGE.astype(np.uint8))
    return "changen2"


def xbd(root: Path) -> str:
    images(root, "images", "images", "flood_00000001_pre_disaster")
    images(root, "images", "images", "flood_00000001_post_disaster")
    ring = "POLYGON ((10 5, 30 5, 30 15, 10 15, 10 5))"
    whole = "POLYGON ((0 30, 9 30, 9 39, 0 39, 0 30))"
    features = [
        {"properties": {"subtype": "destroyed", "uid": "a"}, "wkt": ring},
        {"properties": {"subtype": "no-damage", "uid": "b"}, "wkt": whole},
    ]
    label = root / "labels" / "flood_00000001_post_disaster.json"
    label.parent.mkdir()
    label.write_text(json.dumps({"features": {"xy": features}}))
    return "xbd"


def xbd_targets(root: Path) -> str:
    xbd(root)
    target = np.where(CHANGE, 3, 0).astype(np.uint8)
    put(root / "targets" / "flood_00000001_post_disaster_target.png", target)
    return "xbd"


@pytest.mark.parametrize("make", [levir, levir_of_ones, s2looking, second, changen2, xbd, xbd_targets])
def test_layouts(tmp_path: Path, make) -> None:
    layout = make(tmp_path)
    pairs = open_real_pairs(tmp_path)
    pair = only(pairs)
    assert pairs.layout == layout and pair.known.all()
    assert np.array_equal(pair.change, CHANGE)
    assert pair.before.shape == (40, 50, 3) and not np.array_equal(pair.before, pair.after)


def test_unknown_pixels(tmp_path: Path) -> None:
    images(tmp_path, "A", "B")
    values = CHANGE.astype(np.uint8)
    values[30:] = 255
    put(tmp_path / "label" / "1.png", values)
    pair = only(open_real_pairs(tmp_path))
    assert np.array_equal(pair.change, CHANGE) and not pair.known[30:].any() and pair.known[:30].all()


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    levir(tmp_path)
    images(tmp_path / "train", "A", "B", "2")
    put(tmp_path / "train" / "label" / "2.png", np.zeros((9, 9), np.uint8))
    images(tmp_path / "train", "A", "B", "3")
    (tmp_path / "train" / "label" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    images(tmp_path / "train", "A", "B", "4")  # no label: no pair
    pairs = open_real_pairs(tmp_path)
    reasons = [found.reason for n in range(pairs.count) for found in pairs.read(n) if isinstance(found, Skip)]
    assert pairs.count == 3 and len(reasons) == 2 and "differ in size" in reasons[0]
    with pytest.raises(UsageError, match="holds no pairs"):
        open_real_pairs(tmp_path / "train" / "A")
    with pytest.raises(UsageError, match="is no folder"):
        open_real_pairs(tmp_path / "nowhere")


def test_a_dataset_of_changen_and_the_choice(tmp_path: Path) -> None:
    pairs = open_real_pairs(write_dataset(tmp_path / "out", count=6, dates=8))
    found = list(pairs.read(0))
    assert pairs.count == 6 and [pair.name[-6:] for pair in found] == ["_t0_t1", "_t2_t3", "_t4_t5", "_t6_t7"]
    assert found[0].place == "place0" and found[0].masks is not None
    assert np.array_equal(found[0].change, found[0].masks[0] != found[0].masks[1])
    chosen = pairs.choose(3)
    assert chosen == pairs.choose(3) == sorted(chosen) and set(chosen) < set(pairs.choose(5))
    assert pairs.choose(99) == list(range(6))
