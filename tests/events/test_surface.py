"""Ground nobody builds on, learned from colours."""

from __future__ import annotations

import numpy as np

from changen_cli.core.types import ClassSchema, Scene
from changen_cli.events import unlikely_ground


def town_by_the_river(*, houses: bool = True, wide: int = 80) -> tuple[Scene, np.ndarray]:
    """Green land with rows of houses, and a brown river none of them stands at."""
    rng = np.random.default_rng(0)
    image = np.empty((320, 400, 3))
    image[:] = (80, 120, 60)
    river = np.zeros(image.shape[:2], dtype=bool)
    river[:, 300 : 300 + wide] = True
    image[river] = (120, 105, 80)
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    if houses:
        for row in range(20, 300, 40):
            for col in range(20, 220, 40):
                mask[row : row + 16, col : col + 16] = 1
    image[mask == 1] = (200, 60, 50)
    image += rng.normal(0, 3, image.shape)
    return Scene("town", "town", np.clip(image, 0, 255).astype(np.uint8), mask), river


def test_a_river_is_avoided_and_land_is_not() -> None:
    scene, river = town_by_the_river()
    found = unlikely_ground(scene, ClassSchema())
    assert found is not None
    assert found.shape == scene.mask.shape
    assert found[river].mean() > 0.8
    assert found[~river].mean() < 0.04  # blocks on the bank are half river
    assert not found[scene.mask == 1].any()


def test_nothing_is_said_when_the_mask_or_the_scene_says_too_little() -> None:
    scene, _ = town_by_the_river()
    assert unlikely_ground(scene, ClassSchema(("land", "building", "water"))) is None
    assert unlikely_ground(scene, ClassSchema(("land", "tree"))) is None
    empty, _ = town_by_the_river(houses=False)
    assert unlikely_ground(empty, ClassSchema()) is None
    tiny = Scene("t", "t", scene.image[:7, :7], scene.mask[:7, :7])
    assert unlikely_ground(tiny, ClassSchema()) is None


def test_the_same_scene_gives_the_same_ground() -> None:
    scene, _ = town_by_the_river(wide=60)
    first, second = (unlikely_ground(scene, ClassSchema()) for _ in range(2))
    assert (first == second).all()
