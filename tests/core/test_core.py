"""Files by rename, seeds by name, the manifest, the types."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from changen_cli.core.errors import ChangenError, IncompleteError, OutputError, UsageError
from changen_cli.core.files import atomic_path, sha256, write_text
from changen_cli.core.landcover import openearthmap_name
from changen_cli.core.manifest import FILE_NAME, Manifest, new_manifest, read_manifest
from changen_cli.core.recipe import build_recipe
from changen_cli.core.seeding import derive_rng, derive_seed
from changen_cli.core.types import ClassSchema, Scene, TimeSeries


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_path(path) as partial:  # noqa: PT012
        partial.write_text("new")
        assert partial.suffix == ".txt"
        assert partial.name.startswith(".")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_the_new_file_is_hidden_until_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_seeds_depend_on_every_name_and_its_type() -> None:
    seeds = [derive_seed(0), derive_seed(1), derive_seed(0, "a"), derive_seed(0, "a", 1), derive_seed(0, "a", "1")]
    seeds += [derive_seed(0, "ab"), derive_seed(0, "a", "b"), derive_seed(0, "b", "a")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_in_every_process() -> None:
    code = "from changen_cli.core.seeding import derive_seed; print(derive_seed(7, 'scene', 0, 1))"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": salt})
        for salt in ("1", "2")
    ]
    assert {int(run.stdout) for run in runs} == {derive_seed(7, "scene", 0, 1)}


def test_rng_is_never_the_global_one() -> None:
    np.random.seed(0)  # noqa: NPY002
    first = derive_rng(3, "x").integers(2**40, size=4)
    np.random.seed(1)  # noqa: NPY002
    assert (derive_rng(3, "x").integers(2**40, size=4) == first).all()


def manifest() -> Manifest:
    return new_manifest(
        build_recipe({"source": {"input": "in"}}),
        source={"layout": "xbd", "classes": ["background", "building"], "description": "d"},
        model=None,
        unchanged_pixels="exact",
        device="cpu",
        dtype="float32",
        threads=1,
    )


def test_manifest_round_trip(tmp_path: Path) -> None:
    first = manifest()
    assert first.status == "running"
    assert {"changen", "python", "torch", "numpy"} <= set(first.versions)
    first.save(tmp_path)
    assert read_manifest(tmp_path) == first
    assert read_manifest(tmp_path).fingerprint == build_recipe({"source": {"input": "in"}}).fingerprint()


@pytest.mark.parametrize("content", [None, b"{}", b"not json", b"\xff\xfe\x00", b'{"name": "my web app"}'])
def test_unreadable_manifests(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(OutputError) as error:
        read_manifest(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_errors_carry_their_exit_codes() -> None:
    assert [kind("x").exit_code for kind in (ChangenError, OutputError, UsageError, IncompleteError)] == [1, 1, 2, 3]
    assert str(UsageError("bad", "Do this")) == "bad. Do this"
    assert str(UsageError("bad")) == "bad"


def test_class_schema() -> None:
    schema = ClassSchema(("Unknown", "road", "House", "WATER", "land"))
    assert schema.building_id == 2
    assert schema.forbidden_ids == (1, 3)
    assert schema.unknown_ids == (0,)
    assert tuple(schema.colors[2]) == (222, 31, 7)
    assert len({tuple(color) for color in schema.colors}) == 5
    assert ClassSchema(("a", "b")).building_id is None


def test_the_object_of_proposals_plays_the_part_of_a_building() -> None:
    schema = ClassSchema(("none", "object"), class_agnostic=True)
    assert (schema.building_ids, schema.ground_ids, schema.forbidden_ids) == ((1,), (0,), ())
    assert schema.building_name == "object"
    with pytest.raises(ValueError, match="two classes"):
        ClassSchema(class_agnostic=True, names=("none", "object", "road"))
    with pytest.raises(ValueError, match="1 to 255"):
        ClassSchema(())


def test_change_masks_are_the_difference_of_the_masks() -> None:
    masks = np.zeros((3, 2, 2), np.uint8)
    masks[1:, 0, 1] = 1
    images = np.zeros((3, 2, 2, 3), np.uint8)
    series = TimeSeries("a", Scene("s", "g", images[0]), 0, 0, images, masks, np.zeros((3, 2, 2), np.int32), {}, ())
    assert series.change_masks.tolist() == [[[False, True], [False, False]], [[False, False], [False, False]]]


def test_states_of_damage_are_classes() -> None:
    xbd = ClassSchema().with_damage()
    assert xbd.names == ("background", "no-damage", "minor-damage", "major-damage", "destroyed")
    assert xbd.damage_ids == xbd.building_ids == xbd.object_ids == (1, 2, 3, 4)
    assert xbd.standing_ids == (1, 2, 3)
    assert (xbd.building_id, xbd.building_name, xbd.ground_ids) == (1, "building", (0,))
    assert xbd.with_damage() is xbd
    assert len({tuple(color) for color in xbd.colors.tolist()}) == 5
    land = ClassSchema(("land", "water", "house"))
    states = land.with_damage()
    assert states.names == ("land", "water", "house", "minor-damage", "major-damage", "destroyed")
    assert (states.damage_ids, states.building_id, states.ground_ids) == ((2, 3, 4, 5), 2, (0,))
    assert land.damage_ids == () and land.object_ids == (2,)
    assert land.colors[2].tolist() == [222, 31, 7], "red where damage is not told apart"
    assert ClassSchema(("land", "water")).object_ids == ()
    assert ClassSchema(("a", "building", "destroyed")).with_damage().names[2:] == (
        "destroyed",
        "minor-damage",
        "major-damage",
    )
    assert openearthmap_name("no-damage") == "building"
    assert openearthmap_name("destroyed") is None
