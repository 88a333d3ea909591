"""One sheet of alternative futures: those generate would make, of the scene that was named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import changen_cli
from changen_cli.core.errors import UsageError
from changen_cli.sources import readers
from changen_cli.workflows.preview import preview
from changen_cli.workflows.setup import LIBRARY_SCENES
from changen_cli.workflows.simulate import simulate_dataset
from changen_cli.writers.drawing import CREATED, REMOVED

from .conftest import load, rows


@pytest.fixture
def sheet(tmp_path) -> Path:
    return tmp_path / "sheet.png"


def has(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((image == color).all(axis=-1).any())


@pytest.mark.parametrize("scene_id", ["", "s1"])
def test_futures_are_the_series_of_the_same_recipe(pairs_tree, tmp_path, sheet, make_recipe, scene_id) -> None:
    out = tmp_path / "out"
    recipe = make_recipe(pairs_tree, output={"path": str(out)}, variants=3, events={"steps": 2})
    drawn = preview(recipe, sheet, scene_id=scene_id)
    assert (drawn.sheet, drawn.scene_id, len(drawn.futures)) == (sheet, scene_id or "s0", 3)
    simulate_dataset(recipe)
    made = [row for row in rows(out) if row["scene_id"] == drawn.scene_id]
    for row, future in zip(made, drawn.futures, strict=True):
        assert row["image_name"] == future.id
        for name, mask in zip(row["mask_file_names"], future.masks, strict=True):
            assert (load(out, name) == mask).all()
    assert len(drawn.reports) == 6


def test_the_sheet(pairs_tree, sheet, make_recipe) -> None:
    recipe = make_recipe(pairs_tree, variants=10, events={"change_area": "5-10%"})
    preview(recipe, sheet)
    first = sheet.read_bytes()
    image = np.asarray(Image.open(sheet))[140:]
    assert has(image, CREATED) and has(image, REMOVED) and has(image, (222, 31, 7))
    preview(recipe, sheet)
    assert sheet.read_bytes() == first, "drawn over, with the same bytes"
    fewer = preview(make_recipe(pairs_tree, variants=2), sheet)
    assert len(fewer.futures) == 2 and Image.open(sheet).height < image.shape[0]
    assert [path.name for path in sheet.parent.iterdir() if path.suffix == ".png"] == ["sheet.png"]


@pytest.mark.parametrize(
    ("layout", "file", "scene"),
    [
        ("pairs_tree", "images/s2.png", "s2"),
        ("pairs_tree", "masks/s2.png", "s2"),
        ("xbd_tree", "images/flood_00000001_pre_disaster.png", "flood_00000001"),
        ("xbd_tree", "labels/flood_00000001_pre_disaster.json", "flood_00000001"),
        ("photos", "p1.png", "p1"),
    ],
)
def test_a_file_names_its_scene(layout, file, scene, request, sheet, make_recipe, monkeypatch) -> None:
    root = request.getfixturevalue(layout)
    classes = {"classes": ("background", "building", "road")} if layout == "pairs_tree" else {}
    recipe = make_recipe(root / file, source=classes, variants=1)
    assert preview(recipe, sheet).scene_id == scene
    monkeypatch.chdir((root / file).parent)
    beside = make_recipe(Path(Path(file).name), source=classes, variants=1)
    assert preview(beside, sheet).scene_id == scene, "named from within its folder"


def test_only_the_library_is_read_of_a_large_folder(tmp_path, sheet, make_recipe, monkeypatch) -> None:
    from conftest import write_pairs

    folder = write_pairs(tmp_path / "many", count=LIBRARY_SCENES + 10, size=64)
    read = []
    whole = readers.read_scene
    monkeypatch.setattr(readers, "read_scene", lambda item, *a, **k: read.append(item.id) or whole(item, *a, **k))
    drawn = preview(make_recipe(folder / "images" / "s33.png", source={"classes": ("a", "building", "road")}), sheet)
    assert drawn.scene_id == "s33"
    assert sorted(read) == sorted({*sorted(f"s{n}" for n in range(34))[:LIBRARY_SCENES], "s33"})


def test_tiles_have_ids_of_their_own(pairs_tree, sheet, make_recipe) -> None:
    cut = {"source": {"res": 64}, "variants": 1}
    assert preview(make_recipe(pairs_tree, **cut), sheet, scene_id="s1_r00064_c00000").scene_id == "s1_r00064_c00000"
    assert preview(make_recipe(pairs_tree, **cut), sheet, scene_id="s1").scene_id == "s1_r00000_c00000"
    file = make_recipe(
        pairs_tree / "images" / "s2.png", variants=1, source={"res": 64, "classes": ("a", "building", "c")}
    )
    assert preview(file, sheet).scene_id == "s2_r00000_c00000"
    assert preview(file, sheet, scene_id="s2_r00064_c00064").scene_id == "s2_r00064_c00064"


def test_masks_that_lie_deeper(tmp_path, sheet, make_recipe) -> None:
    from conftest import write_pairs

    made = write_pairs(tmp_path / "labels" / "made")  # a parent's name means nothing where no images lie beside it
    root = tmp_path / "labels" / "set"
    for kind in ("images", "masks"):
        (root / kind / "north").mkdir(parents=True)
        (made / kind / "s0.png").rename(root / kind / "north" / "a.png")
    for kind in ("images", "masks"):
        recipe = make_recipe(root / kind / "north" / "a.png", source={"classes": ("a", "building", "c")}, variants=1)
        assert preview(recipe, sheet).scene_id == "images--north--a"


def test_bad_requests(pairs_tree, photos, tmp_path, sheet, make_recipe) -> None:
    named = {"classes": ("background", "building", "road")}
    alien = pairs_tree / "notes.txt"
    alien.write_text("nothing")
    (pairs_tree / "images" / "lonely.png").write_bytes((pairs_tree / "images" / "s0.png").read_bytes())
    (pairs_tree / "images" / "s0.png").write_bytes(b"broken")
    for path, scene_id, place, says in [
        (tmp_path / "nowhere", "", sheet, "does not exist"),
        (pairs_tree, "s9", sheet, "has no scene s9. Its first ones are lonely, s0, s1"),
        (alien, "", sheet, "notes.txt is neither an image nor a mask"),
        (pairs_tree / "images" / "lonely.png", "", sheet, "no mask of the same name"),
        (pairs_tree / "images" / "s0.png", "", sheet, "no scene to show: images/s0.png"),
        (pairs_tree / "images" / "s1.png", "s2", sheet, "has no scene s2"),
        (pairs_tree, "", tmp_path / "sheet.jpg", "no PNG"),
        (pairs_tree, "", pairs_tree / "images" / "sheet.png", "take it for an image"),
        (photos / "p0.png", "", photos / "sheet.png", "take it for an image"),
    ]:
        source = named if pairs_tree in (path, *path.parents) else {}
        with pytest.raises(UsageError, match=says):
            preview(make_recipe(path, source=source, variants=1), place, scene_id=scene_id)
        assert not place.exists()
    assert preview(make_recipe(pairs_tree, variants=1), pairs_tree / "sheet.png").scene_id == "s1", (
        "broken ones are passed"
    )


def test_as_typed(xbd_tree, tmp_path) -> None:
    code = (
        "import sys; from changen_cli.cli.app import app; app(sys.argv[1:], standalone_mode=False); "
        "print(sorted({'torch', 'diffusers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "preview", str(xbd_tree), "--count", "3", "--dates", "2018,2020"], cwd=tmp_path,
        capture_output=True, text=True, env={"PATH": "", "PYTHONPATH": str(Path(changen_cli.__file__).parents[1])}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["flood_00000000-futures.png", "[]"]
    assert "3 futures of flood_00000000, asked area met in" in done.stderr
    assert (tmp_path / "flood_00000000-futures.png").is_file()
