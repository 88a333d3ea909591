"""The contact sheet: the right pixels in the right cells, whatever the order of arrival."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from changen_cli.writers import contact_sheet as module
from changen_cli.writers.contact_sheet import ContactSheet, contact_sheet
from changen_cli.writers.drawing import CREATED, LOOKS, REMOVED, kind_map


def pixels(path):
    return np.asarray(Image.open(path))


def has(image, color):
    return bool((image == np.asarray(color, np.uint8)).all(axis=2).any())


def test_shows_dates_masks_and_changes(make, schema, tmp_path):
    sample = make(1, dates=3, shape=(96, 96))
    path = contact_sheet([sample], schema, tmp_path / "sheet.png", cell_px=96)
    image = pixels(path)
    assert image.dtype == np.uint8 and (image[:20] == 255).all()
    assert has(image, CREATED) and has(image, REMOVED)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    # At cell size = tile size the first cell is date 0, pixel for pixel.
    flat = image.reshape(image.shape[0], -1)
    needle = sample.images[0, 50].ravel()
    rows = [y for y in range(flat.shape[0]) if flat[y].tobytes().find(needle.tobytes()) >= 0]
    assert len(rows) >= 1


def test_created_and_removed_pixels_are_told_apart(make):
    sample = make(2, dates=3)
    created, removed = (kind_map(sample, t) for t in range(2))
    np.testing.assert_array_equal(created == 1, sample.change_masks[0])
    np.testing.assert_array_equal(removed == 2, sample.change_masks[1])
    unlogged = dataclasses.replace(sample, events=[])
    edited = 1 + list(LOOKS).index("transition")
    np.testing.assert_array_equal(kind_map(unlogged, 0) == edited, sample.change_masks[0])


def test_a_swap_is_shown_at_both_places(make):
    sample = make(2, dates=3)
    moved = [dataclasses.replace(event, kind="swap") for event in sample.events]
    here, gone = dataclasses.replace(moved[0], placement=object()), moved[1]
    sample = dataclasses.replace(sample, events=[here, gone])
    code = 1 + list(LOOKS).index("swap")
    for t in range(2):
        np.testing.assert_array_equal(kind_map(sample, t) == code, sample.change_masks[t])
    assert module._summary(sample).startswith("1 moved, ")
    several = [dataclasses.replace(here, area_px=1000 + i) for i in range(3)]
    assert gone in module._largest([*several, gone])


def test_largest_events_include_every_kind(make):
    create, remove = make(0, dates=3).events
    big = [dataclasses.replace(create, area_px=1000 + i, object_id=str(i)) for i in range(4)]
    chosen = module._largest([*big, remove])
    assert [e.area_px for e in chosen] == [1003, 1002, 100]


@pytest.mark.parametrize("limit", [1, 2])
def test_order_of_arrival_does_not_matter(make, schema, tmp_path, limit):
    samples = [make(i) for i in range(3)] + [dataclasses.replace(make(0), id="a_v1", variant=1)]
    forward = contact_sheet(samples, schema, tmp_path / "a.png", max_samples=limit, cell_px=80)
    backward = contact_sheet(samples[::-1], schema, tmp_path / "b.png", max_samples=limit, cell_px=80)
    assert forward.read_bytes() == backward.read_bytes()
    one = contact_sheet(samples[:1], schema, tmp_path / "one.png", cell_px=80)
    assert (forward.read_bytes() == one.read_bytes()) is (limit == 1)


@pytest.mark.parametrize("kind", ["transition", "damage", "grow"])
def test_the_legend_explains_edits_of_the_samples_shown(make, schema, tmp_path, kind):
    edited, plain = make(1), make(0)
    edited = dataclasses.replace(edited, events=[dataclasses.replace(e, kind=kind) for e in edited.events])
    shown = pixels(contact_sheet([edited], schema, tmp_path / "edited.png", cell_px=96))
    color = LOOKS[kind][1]
    assert has(shown[:100], color) and not has(pixels(contact_sheet([plain], schema, tmp_path / "p.png"))[:100], color)
    forward = contact_sheet([edited, plain], schema, tmp_path / "a.png", max_samples=1, cell_px=80)
    backward = contact_sheet([plain, edited], schema, tmp_path / "b.png", max_samples=1, cell_px=80)
    assert forward.read_bytes() == backward.read_bytes()


@pytest.mark.parametrize("shape", [(96, 96), (40, 96)])
def test_samples_without_images_show_their_masks(make, schema, tmp_path, shape):
    sample = dataclasses.replace(make(1, dates=3, shape=shape), images=None)
    image = pixels(contact_sheet([sample], schema, tmp_path / "sheet.png", cell_px=96))[100:]
    assert has(image, CREATED) and has(image, REMOVED) and has(image, schema.colors[1])
    rows = [image[y].tobytes() for y in range(image.shape[0])]
    assert any(sample.scene.image[20].tobytes() in row for row in rows), "the source, pixel for pixel"


def test_add_says_what_it_keeps(make, schema):
    sheet = ContactSheet(schema, max_samples=1, cell_px=64)
    assert sheet.add(make(1)) and not sheet.add(make(2)) and sheet.add(make(0)) and sheet.add(make(0))


@pytest.mark.parametrize("shape", [(32, 120), (120, 32)])
def test_oblong_and_tiny_tiles_and_no_events(make, schema, tmp_path, shape):
    sample = make(0, shape=(64, 96))
    sample = dataclasses.replace(
        sample, events=[], images=np.zeros((2, *shape, 3), np.uint8), masks=np.full((2, *shape), 255, np.uint8)
    )
    assert pixels(contact_sheet([sample], schema, tmp_path / "x.png", cell_px=64)).ndim == 3
    assert pixels(ContactSheet(schema).save(tmp_path / "empty.png")).shape[2] == 3
