"""The exemplar start: removed objects are gone, created ones look like their exemplar, the rest is as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import BoolArray, ClassSchema
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.synthesis.exemplars import ExemplarStart, attached_shadow

from .conftest import SCHEMA, removal, scene


def start(scene, series, library, seed=0):
    return ExemplarStart(library).start(
        scene.image, series.masks[:2], series.instances[0], series.events, SCHEMA, scene.id, derive_rng(seed)
    )


def remove(image, instances, numbers, seed=0, schema=SCHEMA, ground=0):
    """Remove objects from a scene; the mask of the later date is 1 where objects stay, else ``ground``."""
    mask = np.where((instances > 0) & ~np.isin(instances, numbers), 1, ground).astype(np.uint8)
    events = [replace(removal(instances, number), to_class=ground) for number in numbers]
    masks = np.stack([np.where(instances > 0, 1, ground).astype(np.uint8), mask])
    return ExemplarStart().start(image, masks, instances, events, schema, "s", derive_rng(seed))


def luma(image: np.ndarray) -> np.ndarray:
    return np.asarray(image, dtype=float).mean(axis=-1)


def test_a_removed_square_is_gone() -> None:
    made = scene()
    number = 2
    inside: BoolArray = made.instances == number
    assert luma(made.image)[inside].min() > 150
    canvas, touched = remove(made.image, made.instances, [number])
    ground = luma(made.image)[ndimage.binary_dilation(made.instances > 0, iterations=3) == 0]
    assert touched[inside].all()
    assert luma(canvas)[inside].max() <= ground.max() + 15
    assert abs(luma(canvas)[inside].mean() - ground.mean()) < 15
    assert luma(canvas)[inside].std() > 0.4 * ground.std(), "texture, not a smear"
    assert (canvas[~touched] == made.image[~touched]).all()
    assert touched.mean() < 0.15


def test_touching_buildings_stay_when_their_neighbour_goes() -> None:
    made = scene()
    instances = made.instances.copy()
    _, cols = np.nonzero(instances == 2)
    middle = (cols.min() + cols.max()) // 2
    split = (instances == 2) & (np.indices(instances.shape)[1] > middle)
    instances[split] = 99
    canvas, touched = remove(made.image, instances, [99])
    left = instances == 2
    assert not touched[left].any()
    assert (canvas[left] == made.image[left]).all()
    assert luma(canvas)[split].max() < luma(made.image)[left].min()


def test_several_removals_never_copy_from_each_other() -> None:
    made = scene()
    numbers = [1, 2, 3, 4, 5, 6, 7]
    canvas, touched = remove(made.image, made.instances, numbers)
    ground = luma(made.image)[ndimage.binary_dilation(made.instances > 0, iterations=3) == 0]
    assert luma(canvas)[made.instances > 0].max() <= ground.max() + 15
    assert (canvas[~touched] == made.image[~touched]).all()


@pytest.mark.parametrize("everywhere", ["built", "removed", "tiny"])
def test_without_any_free_ground(everywhere: str) -> None:
    """All building, one of them goes; or everything goes; or the tile is smaller than the ring."""
    size = 6 if everywhere == "tiny" else 60
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (size, size, 3)).astype(np.uint8)
    instances = np.ones((size, size), np.int32)
    if everywhere == "built":
        instances[:, size // 2 :] = 2
    canvas, touched = remove(image, instances, [1])
    assert np.isfinite(canvas).all()
    assert canvas.min() >= 0 and canvas.max() <= 255
    assert (canvas[~touched] == image[~touched]).all()
    assert touched[instances == 1].all()


def test_ground_comes_from_the_class_the_hole_gets() -> None:
    """Half meadow, half asphalt: a house on the meadow gives way to meadow."""
    rng = np.random.default_rng(0)
    image = np.zeros((160, 160, 3))
    image[:, :80], image[:, 80:] = (60, 140, 60), (120, 120, 125)
    image += rng.normal(0, 6, image.shape)
    mask = np.zeros((160, 160), np.uint8)
    mask[:, 80:] = 2
    instances = np.zeros((160, 160), np.int32)
    instances[70:90, 58:76] = 1
    image[instances == 1] = 240
    events = [replace(removal(instances, 1), to_class=0)]
    canvas, _ = ExemplarStart().start(
        np.clip(image, 0, 255).astype(np.uint8), np.stack([mask, mask]), instances, events,
        ClassSchema(("meadow", "building", "asphalt")), "s", derive_rng(0),
    )  # fmt: skip
    inside = canvas[instances == 1]
    assert (inside[:, 1] - inside[:, 0]).mean() > 50
    assert (inside[:, 1] - inside[:, 0]).min() > 15


@pytest.mark.parametrize("kinds", [("create",), ("remove",), ("create", "remove")])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_start(simulated, kinds, seed) -> None:
    made, series, library = simulated(seed, kinds)
    first, touched = start(made, series, library)
    second, again = start(made, series, library)
    assert (first == second).all()
    assert (touched == again).all()
    assert first.dtype == np.float32 and first.min() >= 0 and first.max() <= 255


def test_another_seed_fills_with_other_ground(simulated) -> None:
    made, series, library = simulated(0, ("remove",))
    assert (start(made, series, library, 0)[0] != start(made, series, library, 1)[0]).any()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kinds", [("create",), ("create", "remove")])
def test_what_is_not_touched_stays(simulated, kinds, seed) -> None:
    made, series, library = simulated(seed, kinds)
    canvas, touched = start(made, series, library)
    outside = ~ndimage.binary_dilation(touched, iterations=2)
    assert (np.rint(canvas[outside]) == made.image[outside]).all()
    changed = series.masks[0] != series.masks[1]
    assert touched[changed].all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_created_building_looks_like_its_exemplar(simulated, seed) -> None:
    made, series, library = simulated(seed, ("create",))
    canvas, _ = start(made, series, library)
    before, after = luma(made.image), luma(canvas)
    for event in series.events:
        placement = event.placement
        assert placement is not None
        new = series.instances[1] == event.instance
        new &= series.masks[0] != series.masks[1]
        core = ndimage.binary_erosion(new, iterations=2)
        roof = placement.exemplar.image[placement.exemplar.footprint].astype(float)
        assert before[core].mean() < 130
        np.testing.assert_allclose(canvas[core].mean(axis=0), roof.mean(axis=0), atol=8)
        assert after[core].min() > 130
        assert 0.5 < canvas[core].std(axis=0).mean() / roof.std(axis=0).mean() < 1.5


def test_neighbours_of_the_exemplar_are_not_copied(simulated) -> None:
    """Whatever belongs to other objects in the exemplar's picture must not appear anywhere."""
    made, series, library = simulated(0, ("create",))
    marked = []
    for event in series.events:
        exemplar = event.placement.exemplar
        others = np.zeros_like(exemplar.others)
        others[:6, :] = True
        image = exemplar.image.copy()
        image[others & ~exemplar.footprint] = (255, 0, 255)
        poisoned = replace(exemplar, image=image, others=(exemplar.others | others) & ~exemplar.footprint)
        marked.append(replace(event, placement=replace(event.placement, exemplar=poisoned)))
    canvas, _ = start(made, replace(series, events=tuple(marked)), library)
    pink = (canvas[..., 0] > 200) & (canvas[..., 1] < 60) & (canvas[..., 2] > 200)
    assert not pink.any()


def test_colours_move_towards_the_scene_they_come_to(simulated) -> None:
    made, series, _ = simulated(0, ("create",))
    _, _, library = simulated(5, ("create",))
    dark = [replace(e, scene_id="dark", image=(e.image * 0.5).astype(np.uint8)) for e in library]
    event = series.events[0]
    new = ndimage.binary_erosion((series.masks[0] != series.masks[1]), iterations=2)
    foreign = replace(event.placement.exemplar, scene_id="dark")
    foreign = replace(foreign, image=(foreign.image * 0.5).astype(np.uint8))
    events = tuple(replace(e, placement=replace(e.placement, exemplar=foreign)) for e in series.events)
    plain, _ = start(made, replace(series, events=events), [])
    matched, _ = start(made, replace(series, events=events), dark)
    assert luma(matched)[new].mean() > luma(plain)[new].mean() + 10


def test_attached_shadow() -> None:
    image = np.full((40, 40, 3), 150, np.uint8)
    footprint = np.zeros((40, 40), dtype=bool)
    footprint[12:22, 12:22] = True
    image[12:26, 22:26] = 40  # falls to the right, attached
    image[34:38, 2:6] = 40  # a dark car elsewhere
    shadow = attached_shadow(image, footprint, np.ones((40, 40), dtype=bool))
    assert shadow[14:24, 23:25].all()
    assert not shadow[footprint].any()
    assert not shadow[30:].any()
    assert not attached_shadow(np.full((40, 40, 3), 150, np.uint8), footprint, np.ones((40, 40), dtype=bool)).any()


def test_a_cast_shadow_darkens_the_ground_that_is_there(simulated) -> None:
    """The shadow beside an exemplar comes along as a ratio: the new site's ground, darker."""
    made, series, _ = simulated(0, ("create",))
    event = series.events[0]
    exemplar = event.placement.exemplar
    shade = ndimage.binary_dilation(exemplar.footprint, iterations=4) & ~exemplar.footprint
    image = exemplar.image.copy()
    image[shade] = image[shade] // 4
    dark = replace(event, placement=replace(event.placement, exemplar=replace(exemplar, image=image)))
    canvas, touched = start(made, replace(series, events=(dark,)), [])
    new = series.instances[1] == event.instance
    ring = ndimage.binary_dilation(new, iterations=3) & ~ndimage.binary_dilation(new, iterations=1)
    ring &= series.masks[1] == 0
    assert touched[ring].mean() > 0.8
    assert luma(canvas)[ring].mean() < 0.8 * luma(made.image)[ring].mean()


def test_what_is_not_touched_stays_to_the_bit_beside_shadows() -> None:
    made = scene(27)
    shade = np.zeros(made.instances.shape, dtype=bool)
    for offset in range(1, 5):
        shade |= np.roll(made.instances > 0, (offset, offset), (0, 1))
    image = made.image.copy()
    image[shade & (made.instances == 0)] //= 3
    made = replace(made, image=image)
    library = collect_exemplars(made, SCHEMA)
    series = simulate_series(
        made,
        EventRules(SCHEMA, ("create",), (0.03, 0.05)),
        steps=1,
        library=library,
        rng_for_step=lambda step: derive_rng(27, step),
    )
    canvas, touched = start(made, series, library)
    assert (np.rint(canvas[~touched]) == image[~touched]).all()
