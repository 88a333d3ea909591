"""What acquisitions do to an image, each effect by what it promises."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.nuisance import NuisanceTable, load_nuisance
from changen_cli.core.seeding import derive_rng
from changen_cli.synthesis.nuisance import Acquisition, acquire, draw_acquisition, lean_offsets, spoilt_labels
from changen_cli.synthesis.nuisance.light import find_shadows

REALISTIC = load_nuisance("realistic")


def town(size: int = 128, seed: int = 0) -> np.ndarray:
    """Textured ground with a lawn, and houses that cast shadows."""
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(0, 60, (size, size)), 3)[..., None] + (150, 135, 115)
    ground[: size // 4, : size // 2] = (90, 140, 70)
    for row, col in ((40, 20), (40, 70), (90, 40)):
        ground[row + 4 : row + 24, col + 4 : col + 30] *= 0.35
        ground[row : row + 20, col : col + 26] = (190, 180, 175)
    return np.clip(ground + rng.normal(0, 3, ground.shape), 1, 255).astype(np.uint8)


def houses(size: int = 128) -> np.ndarray:
    numbers = np.zeros((size, size), np.int32)
    for number, (row, col) in enumerate(((40, 20), (40, 70), (90, 40)), start=1):
        numbers[row : row + 20, col : col + 26] = number
    return numbers


def draw(*names: str | int, table: NuisanceTable = REALISTIC, size: int = 128) -> Acquisition:
    return draw_acquisition(table, (size, size), 0.5, derive_rng(0, *names))


def test_a_draw_decides_every_byte_and_another_seed_another() -> None:
    image, before = town(), town()
    first, second, other = (acquire(image, draw(name)) for name in "aab")
    assert (first == second).all()
    assert (first == other).all(axis=-1).mean() < 0.05
    assert (image == before).all(), "the input is left alone"
    assert first.dtype == np.uint8 and first.shape == image.shape


def test_nothing_drawn_leaves_everything_as_it_is() -> None:
    none = draw("a", table=load_nuisance("none"))
    assert replace(none, seed=0, local=1.0) == Acquisition()
    assert (acquire(town(), none) == town()).all()


def test_every_strength_alone_changes_something_and_the_others_not_what_it_draws() -> None:
    """A strength of its own reaches the pixels; what is drawn for the others does not depend on it."""
    whole = draw("a").record()
    for key, value in load_nuisance("hard").model_dump(exclude={"name", "description"}).items():
        alone = NuisanceTable(**{key: 1.0 if key == "cloud" else value})
        drawn = draw("a", table=alone)
        offsets = lean_offsets(houses(), np.full(4, 12.0), drawn)
        assert (acquire(town(), drawn, offsets) != town()).any(), key
        if key in whole and key != "cloud":
            same = draw("a", table=REALISTIC.model_copy(update={key: value})).record()
            assert same.pop(key) != whole[key]
            assert same.items() <= whole.items()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (2, 2), (63, 45)])
def test_any_shape(shape) -> None:
    drawn = draw_acquisition(load_nuisance("hard"), shape, None, derive_rng(0))
    numbers = np.ones(shape, np.int32)
    offsets = lean_offsets(numbers, np.array([0.0, 9.0]), drawn)
    made = acquire(np.full((*shape, 3), 90, np.uint8), drawn, offsets, numbers > 0)
    assert made.shape == (*shape, 3)
    assert spoilt_labels(numbers.astype(np.uint8), offsets, drawn).shape == shape


def test_pixels_without_data_stay_without_and_do_not_bleed() -> None:
    image = town()
    image[:, :30] = 0
    for name in range(4):
        made = acquire(image, draw(name))
        assert not made[:, :30].any()
        beside, inside = made[:, 30].mean(), made[:, 34:40].mean()
        assert beside > 0.6 * inside
    assert not acquire(np.zeros_like(image), draw("a")).any()


def test_shifts_move_the_content_by_what_is_logged() -> None:
    image = town()
    moved = acquire(image, replace(Acquisition(), shift=(3.0, -2.0)))
    assert np.abs(moved[3:, :-2].astype(int) - image[:-3, 2:]).max() <= 1
    half = acquire(image, replace(Acquisition(), shift=(0.5, 0.0)))
    assert np.abs(half[1:].astype(float) - (image[1:].astype(float) + image[:-1]) / 2).max() <= 1.5


def test_tall_objects_lean_by_their_height_and_hide_what_is_behind() -> None:
    numbers, image = houses(), town()
    drawn = replace(Acquisition(), lean=(-0.5, 0.0))
    offsets = lean_offsets(numbers, np.array([0, 12.0, 0.0, 4.0]), drawn)
    assert offsets is not None
    made = acquire(image, drawn, offsets)
    assert (made[34:54, 20:46] == image[40:60, 20:46]).all(), "the roof, six pixels up"
    assert (made[54:60, 20:46] < image[54:60, 20:46]).all(), "the wall below it"
    assert (made[40:60, 70:96] == image[40:60, 70:96]).all(), "no height, no lean"
    assert (made[88:108, 40:66] == image[90:110, 40:66]).all()
    mask = (numbers > 0).astype(np.uint8)
    rims = spoilt_labels(mask, offsets, drawn)
    assert rims.sum() == 6 * 26 and rims[34:40, 20:46].all(), "two pixels are as annotators draw them, six are not"


def test_labels_are_spoilt_only_where_content_moved_far_across_an_edge() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 1
    assert not spoilt_labels(mask, None, replace(Acquisition(), shift=(1.4, 1.4))).any()
    rims = spoilt_labels(mask, None, replace(Acquisition(), shift=(3.0, 0.0)))
    wanted = np.zeros_like(rims)
    wanted[20:23, 20:40] = wanted[40:43, 20:40] = True
    assert (rims == wanted).all()
    turned = spoilt_labels(mask, None, replace(Acquisition(), warp=(0.0, 0.15, -0.15, 0.0)))
    assert turned.any() and not turned[30:34, 30:34].any(), "rotation displaces little near the middle"


def test_shadows_move_and_fade() -> None:
    image = town()
    shaded = find_shadows(image) > 0.5
    assert shaded[44:60, 47:50].mean() > 0.8, "the ground beside a house"
    lifted = acquire(image, replace(Acquisition(), shadow_depth=0.3))
    assert lifted[46:58, 47:50].mean() > 1.5 * image[46:58, 47:50].mean()
    moved = acquire(image, replace(Acquisition(), shadow_shift=(0.0, 4.0)), None, houses() > 0)
    assert moved[46:58, 51:53].mean() < 0.75 * image[46:58, 51:53].mean()
    assert (moved[42:58, 24:44] == image[42:58, 24:44]).all(), "none on the roof"


def test_plants_change_and_roofs_do_not() -> None:
    dry, lush = (acquire(town(), replace(Acquisition(), season=(state, state))).astype(int) for state in (-0.8, 0.8))
    lawn, roof = (slice(4, 28), slice(4, 60)), (slice(42, 58), slice(22, 44))
    assert dry[lawn][..., 0].mean() > lush[lawn][..., 0].mean() + 40
    assert np.abs(dry[roof] - lush[roof]).mean() < 3


def test_no_date_stands_out() -> None:
    """Sharpness, contrast and level of one date over the next lie on both sides of one, and around it."""
    figures = []
    for place in range(60):
        pair = [acquire(town(seed=place % 3), draw(place, date)).astype(float).mean(-1) for date in (0, 1)]
        figures.append([[np.abs(np.diff(date, axis=0)).mean(), date.std(), date.mean()] for date in pair])
    ratio = np.log(np.array(figures)[:, 1] / np.array(figures)[:, 0])
    assert (np.abs(ratio.mean(axis=0)) < 3 * ratio.std(axis=0) / np.sqrt(len(ratio))).all()
    assert (ratio > 0).any(axis=0).all() and (ratio < 0).any(axis=0).all()


@pytest.mark.slow
def test_it_is_fast() -> None:
    image = np.tile(town(256), (4, 4, 1))
    drawn = draw("a", size=1024)
    offsets = lean_offsets(np.tile(houses(256), (4, 4)), np.full(4, 12.0), drawn)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        acquire(image, drawn, offsets)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.6
