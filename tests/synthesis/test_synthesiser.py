"""Masks to images: batches change nothing, unchanged ground stays, classes are matched by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.types import ClassSchema
from changen_cli.synthesis import ChangenPipeline
from changen_cli.synthesis.schedulers import make_scheduler
from changen_cli.synthesis.synthesiser import DateJob, Synthesiser, SynthesisSettings, label_planes

from .conftest import SCHEMA

QUICK = {"inference_steps": 4, "strength": 0.5}


def job(made, series, step: int = 0, image: np.ndarray | None = None) -> DateJob:
    return DateJob(
        image=made.image if image is None else image,
        masks=series.masks[step : step + 2],
        instances=series.instances[step : step + 2],
        events=[event for event in series.events if event.time_index == step],
        scene_id=made.id,
        seed=7,
        names=(made.id, 0, step + 1),
    )


@pytest.fixture
def synthesiser(tiny_hybrid) -> Callable[..., Synthesiser]:
    def make(library: Any = (), scheduler: str = "dpm++", **settings: Any) -> Synthesiser:
        model = tiny_hybrid()
        pipeline = ChangenPipeline(model, make_scheduler(scheduler, model.config))
        return Synthesiser(pipeline, SynthesisSettings(**(QUICK | settings)), SCHEMA, library)

    return make


def redrawn(made, series, reach: int = 24) -> np.ndarray:
    """Everything within reach of a changed pixel: margins, shadows and seams end well before."""
    return ndimage.binary_dilation(series.masks[0] != series.masks[1], iterations=reach)


@pytest.mark.parametrize("extent", ["windows", "full"])
@pytest.mark.parametrize("start", ["exemplar", "noise"])
@pytest.mark.parametrize("scheduler", ["dpm++", "iddpm"])
def test_a_job_alone_equals_one_among_others(simulated, synthesiser, extent, start, scheduler) -> None:
    scenes = [simulated(seed) for seed in (0, 1, 2)]
    library = [exemplar for _, _, found in scenes for exemplar in found]
    jobs = [job(made, series) for made, series, _ in scenes]
    draw = synthesiser(library, scheduler, extent=extent, start=start)
    pooled = draw.next_dates(jobs)
    for alone, together in zip(jobs, pooled, strict=True):
        assert (draw.next_dates([alone])[0] == together).all()
    backwards = draw.next_dates(jobs[::-1])
    assert all((a == b).all() for a, b in zip(pooled, backwards[::-1], strict=True))


@pytest.mark.parametrize("settings", [{}, {"start": "noise"}, {"extent": "full"}, {"strength": 0.0}])
def test_unchanged_ground_is_bit_identical(simulated, synthesiser, settings) -> None:
    made, series, library = simulated(0)
    (after,) = synthesiser(library, **settings).next_dates([job(made, series)])
    assert after.dtype == np.uint8 and after.shape == made.image.shape
    far = ~redrawn(made, series)
    assert 0.1 < far.mean() < 0.9
    assert (after[far] == made.image[far]).all()
    changed = series.masks[0] != series.masks[1]
    assert (after[changed] != made.image[changed]).any(axis=-1).mean() > 0.9


def test_unheld_ground_drifts(simulated, synthesiser) -> None:
    made, series, library = simulated(0)
    draw = synthesiser(library, guidance_ratio=0.0)
    (after,) = draw.next_dates([job(made, series)])
    (held,) = synthesiser(library).next_dates([job(made, series)])
    assert (after != made.image).any(axis=-1).mean() > 1.2 * (held != made.image).any(axis=-1).mean()


def test_strength_zero_needs_no_model(simulated, synthesiser) -> None:
    made, series, library = simulated(0)
    draw = synthesiser(library, strength=0.0)
    calls: list[int] = []
    draw.pipeline.transformer.register_forward_hook(lambda *given: calls.append(1))
    (after,) = draw.next_dates([job(made, series)])
    assert not calls
    start, _ = draw.exemplars.start(
        made.image,
        series.masks[:2],
        series.instances[0],
        job(made, series).events,
        SCHEMA,
        made.id,
        _exemplar_rng(made),
    )
    assert (after == np.rint(start).astype(np.uint8)).all()
    assert (after != made.image).any()
    synthesiser(library).next_dates([job(made, series)])
    assert not calls, "the hook belongs to the first model"


def _exemplar_rng(made):
    from changen_cli.core.seeding import derive_rng

    return derive_rng(7, made.id, 0, 1, "exemplar")


def test_each_window_is_denoised_as_often_as_asked(simulated, synthesiser) -> None:
    made, series, library = simulated(0)
    draw = synthesiser(library, inference_steps=10, strength=0.3)
    calls: list[int] = []
    draw.pipeline.transformer.register_forward_hook(lambda *given: calls.append(1))
    told: list[tuple[int, int]] = []
    draw.next_dates([job(made, series)], lambda done, total: told.append((done, total)))
    windows = told[-1][1]
    assert windows >= 1
    assert len(calls) == 3 * windows
    assert [done for done, _ in told] == list(range(1, windows + 1))


def test_nothing_changed_nothing_done(simulated, synthesiser) -> None:
    made, series, library = simulated(0, negative=True)
    draw = synthesiser(library, extent="full")
    calls: list[int] = []
    draw.pipeline.transformer.register_forward_hook(lambda *given: calls.append(1))
    (after,) = draw.next_dates([job(made, series)])
    assert (after == made.image).all()
    assert not calls
    assert draw.measure(job(made, series)) == (0, [], 0.0)
    assert draw.next_dates([]) == []


def test_seed_and_names_decide(simulated, synthesiser) -> None:
    made, series, library = simulated(0)
    draw = synthesiser(library)
    base = job(made, series)
    (first,) = draw.next_dates([base])
    for change in ({"seed": 8}, {"names": (made.id, 1, 1)}, {"names": (made.id, 0, 2)}):
        other = DateJob(**(vars(base) | change))
        assert (draw.next_dates([other])[0] != first).any()


def test_the_given_image_is_left_alone(simulated, synthesiser) -> None:
    made, series, library = simulated(0)
    before = made.image.copy()
    synthesiser(library).next_dates([job(made, series)])
    assert (made.image == before).all()


@pytest.mark.parametrize("shape", [(50, 70), (128, 40)])
def test_tiles_smaller_than_a_window(simulated, synthesiser, shape) -> None:
    made, series, library = simulated(0)
    rows, cols = (slice(0, extent) for extent in shape)
    cut = DateJob(
        **(
            vars(job(made, series))
            | {
                "image": made.image[rows, cols],
                "masks": series.masks[:2, rows, cols],
                "instances": series.instances[:2, rows, cols],
                "events": [],
            }
        )
    )
    if not (cut.masks[0] != cut.masks[1]).any():
        cut.masks[1, 4:20, 4:20] ^= 1
    for extent in ("windows", "full"):
        (after,) = synthesiser(library, extent=extent, start="noise").next_dates([cut])
        assert after.shape == (*shape, 3)
        changed = cut.masks[0] != cut.masks[1]
        assert (after[changed] != cut.image[changed]).any(axis=-1).mean() > 0.9


def test_measure_times_the_largest_window(simulated, synthesiser) -> None:
    made, series, library = simulated(0)
    windows, pixels, seconds = synthesiser(library).measure(job(made, series))
    assert windows == len(pixels) >= 1
    assert pixels[0] == max(pixels)
    assert seconds > 0
    assert synthesiser(library, strength=0.0).measure(job(made, series))[2] == 0


@pytest.mark.parametrize(
    ("names", "mask", "model", "expected"),
    [
        # A schema with the building elsewhere, and under another name.
        (("unknown", "house", "road"), [0, 1, 2, 255], {"classes": ("building",)}, [[0, 1, 0, 0]]),
        (("road", "BUILDING"), [0, 1, 255, 1], {"classes": ("building", "road")}, [[0, 1, 0, 1], [1, 0, 0, 0]]),
        (("Water", "building"), [0, 1, 255, 0], {"classes": ("water",)}, [[1, 0, 0, 1]]),
        # A class the schema lacks stays empty, one the model lacks is nothing in particular.
        (("land", "building", "tree"), [0, 1, 2, 255], {"classes": ("building", "water")}, [[0, 1, 0, 0], [0, 0, 0, 0]]),
        (("land", "tree"), [0, 1, 255, 0], {"classes": ("building",)}, [[0, 0, 0, 0]]),
        # Other words for the same class.
        (("forest", "grass"), [0, 1, 255, 0], {"classes": ("tree", "rangeland")}, [[1, 0, 0, 1], [0, 1, 0, 0]]),
    ],
)  # fmt: skip
def test_label_planes_match_classes_by_name(names, mask, model, expected) -> None:
    values = np.asarray([mask], dtype=np.uint8)
    schema = ClassSchema(names)
    planes = label_planes(values, schema, model | {"unknown_plane": False})
    assert planes.dtype == np.float32
    assert planes[:, 0].tolist() == expected
    known = label_planes(values, schema, model | {"unknown_plane": True})
    assert known[:-1].tolist() == planes.tolist()
    labelled = ~np.isin(values, (255, *schema.unknown_ids))
    assert (known.sum(axis=0) == labelled).all(), "a labelled pixel has one plane, an unlabelled one none"


def test_proposals_tell_a_model_nothing_it_was_not_trained_on() -> None:
    schema = ClassSchema(("none", "object"), class_agnostic=True)
    mask = np.asarray([[0, 1, 255]], dtype=np.uint8)
    assert not label_planes(mask, schema, {"classes": ("building", "water"), "unknown_plane": True}).any()
    own = label_planes(mask, schema, {"classes": ("object",), "unknown_plane": False})
    assert own[:, 0].tolist() == [[0, 1, 0]]
