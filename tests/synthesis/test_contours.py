"""Contours: rims one pixel wide, and the condition of a model that knows nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changen_cli.core.proposals import PROPOSALS
from changen_cli.core.types import ClassSchema, Scene
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.synthesis import ChangenPipeline
from changen_cli.synthesis.contours import contours
from changen_cli.synthesis.schedulers import make_scheduler
from changen_cli.synthesis.synthesiser import DateJob, Synthesiser, SynthesisSettings, label_planes

OF_CONTOURS = {"classes": ("contour",), "unknown_plane": False}


def test_rims_are_one_pixel_wide() -> None:
    objects = np.zeros((9, 12), np.int32)
    objects[2:7, 2:6], objects[2:7, 6:10] = 4, 7
    rim = contours(objects)
    assert rim.dtype == bool and not rim[objects == 0].any()
    assert rim[4].tolist() == [c in (2, 6, 9) for c in range(12)], "one line between two that touch"
    assert rim[2, 2:10].all() and rim[6, 2:10].all()
    assert not contours(np.full((5, 5), 3, np.int32)).any(), "the border of an image is no rim"


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(0, 3), flip=st.booleans())
def test_contours_turn_with_the_objects_and_part_them(seed: int, turns: int, flip: bool) -> None:
    rng = np.random.default_rng(seed)
    objects = np.kron(rng.integers(0, 4, (5, 7)), np.ones((4, 4), int)).astype(np.int32)

    def turned(array: np.ndarray) -> np.ndarray:
        return np.rot90(array[:, ::-1] if flip else array, turns)

    rim = contours(objects)
    assert np.array_equal(contours(turned(objects)), turned(rim))
    for one, other, first, second in (
        (objects[1:], objects[:-1], rim[1:], rim[:-1]),
        (objects[:, 1:], objects[:, :-1], rim[:, 1:], rim[:, :-1]),
    ):
        assert ((one == other) | (first ^ second) | (first & second)).all(), "no way from one to another without a rim"
    assert np.array_equal(contours(objects * 2), rim), "only the order of the numbers counts"


def test_the_plane_of_contours() -> None:
    objects = np.zeros((6, 6), np.int32)
    objects[1:5, 1:5] = 1
    mask = (objects > 0).astype(np.uint8)
    planes = label_planes(mask, PROPOSALS, OF_CONTOURS, objects)
    assert planes.shape == (1, 6, 6) and np.array_equal(planes[0] > 0, contours(objects))
    assert not label_planes(mask, PROPOSALS, OF_CONTOURS).any(), "no objects, no contours"
    both = {"classes": ("building", "contour"), "unknown_plane": True}
    known = label_planes(mask, ClassSchema(), both, objects)
    assert np.array_equal(known[0], mask) and np.array_equal(known[1] > 0, contours(objects))
    assert np.array_equal(known[2], 1 - mask), "a contour is no class: what it runs through is what it was"
    mini = {"classes": ("building", "water"), "unknown_plane": True}
    assert not label_planes(mask, PROPOSALS, mini, objects).any(), "models of classes keep the null label"


@pytest.fixture
def removed() -> DateJob:
    """A date before which some objects went and moved."""
    rng = np.random.default_rng(0)
    objects = np.zeros((96, 96), np.int32)
    for number, (row, col) in enumerate(((8, 8), (8, 56), (56, 8), (56, 56)), start=1):
        objects[row : row + 20, col : col + 24] = number
    image = rng.integers(60, 120, (96, 96, 3)).astype(np.uint8)
    scene = Scene("s", "s", image, (objects > 0).astype(np.uint8), objects)
    series = simulate_series(
        scene,
        EventRules(PROPOSALS, ("remove", "swap"), (0.1, 0.1)),
        steps=1,
        library=collect_exemplars(scene, PROPOSALS),
        rng_for_step=lambda t: np.random.default_rng(t),
    )
    assert series.events
    return DateJob(image, series.masks, series.instances, series.events, "s", 7, ("s", 0, 1))


def test_the_condition_is_that_of_the_later_date(removed, tiny_hybrid) -> None:
    job = removed
    model = tiny_hybrid(label_channels=1, **OF_CONTOURS)
    pipeline = ChangenPipeline(model, make_scheduler("dpm++", model.config))
    drawing = Synthesiser(pipeline, SynthesisSettings(strength=0.6, inference_steps=4, extent="full"), PROPOSALS)
    (task,) = drawing._prepare(0, job)[1]
    plane = task.planes[0, :96, :96] > 0
    assert np.array_equal(plane, contours(job.instances[1]))
    gone = (job.instances[0] > 0) & (job.masks[1] == 0)
    assert gone.any() and not plane[gone].any(), "what was removed has no contour"
    before = DateJob(**(vars(job) | {"instances": np.stack([job.instances[0], job.instances[0]])}))
    assert (drawing.next_dates([job])[0] != drawing.next_dates([before])[0]).any(), "the model sees it"
