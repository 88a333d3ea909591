"""Whole runs over tiny folders with a tiny real model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from changen_cli.core.errors import IncompleteError
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent

from .conftest import load, manifest, rows, tree


class Recording(Silent):
    """Remembers what a run told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.scenes: list[tuple[int, int]] = []
        self.totals: list[int] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def total(self, images: int) -> None:
        self.totals.append(images)

    def scene(self, images_done: int, samples_done: int) -> None:
        self.scenes.append((images_done, samples_done))


def far_from_change(change: np.ndarray) -> np.ndarray:
    return ndimage.binary_dilation(change, iterations=26) == 0


@pytest.mark.parametrize("layout", ["xbd", "pairs"])
def test_exact(layout, request, tmp_path, make_recipe) -> None:
    source = request.getfixturevalue(f"{layout}_tree")
    recipe = make_recipe(
        source, output={"path": str(tmp_path / "out")}, synthesis={"nuisance": "none"}, events={"steps": 2}
    )
    told = Recording()
    result = generate(recipe, told)
    out = tmp_path / "out"
    scenes = 2 if layout == "xbd" else 3
    assert (result.samples, result.scenes, result.failed, result.skipped) == (scenes, scenes, 0, [])
    assert result.output == out and result.preview == out / "preview.png"
    for row in rows(out):
        masks = [load(out, name) for name in row["mask_file_names"]]
        images = [load(out, name) for name in row["image_file_names"]]
        changes = [load(out, name) for name in row["change_file_names"]]
        assert len(images) == len(masks) == 3 and len(changes) == 2
        events = [json.loads(line) for line in (out / "train" / row["events_file"]).read_text().splitlines()]
        assert len(events) == row["event_count"] >= 1
        for t, change in enumerate(changes):
            assert set(np.unique(change)) <= {0, 255}
            assert ((masks[t] != masks[t + 1]) == (change > 0)).all()
            assert int((change > 0).sum()) == sum(e["area_px"] for e in events if e["step"] == t)
            assert 0.01 < (change > 0).mean() < 0.13
            far = far_from_change(change > 0)
            assert far.any()
            assert (images[t][far] == images[t + 1][far]).all()
            assert (images[t][change > 0] != images[t + 1][change > 0]).any(axis=-1).mean() > 0.9
    # Date 0 is the source itself.
    from PIL import Image

    first = rows(out)[0]
    given = np.asarray(Image.open(source / first["source_path"]))
    assert (load(out, first["t1_image_file_name"]) == given).all()
    assert told.totals == [scenes]
    assert told.scenes[-1] == (scenes, scenes)


def test_dates_differ_as_acquisitions_do(pairs_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    generate(make_recipe(pairs_tree, output={"path": str(out)}))
    from PIL import Image

    for row in rows(out):
        before, after = (load(out, row[f"t{t}_image_file_name"]).astype(int) for t in (1, 2))
        given = np.asarray(Image.open(pairs_tree / row["source_path"])).astype(int)
        far = far_from_change(load(out, row["change_mask_file_name"]) > 0)
        same = (before == after).all(axis=-1)
        assert same[far].mean() < 0.1
        assert (before == given).all(axis=-1).mean() < 0.1, "date 0 is no clean copy"
        assert np.corrcoef(before.ravel(), given.ravel())[0, 1] > 0.7
        assert row["nuisance"] == "realistic"
        first, second = row["acquisition"]
        assert first.keys() == second.keys() and first["gain_red"] != second["gain_red"]


def test_manifest_promises_and_completes(xbd_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    recipe = make_recipe(xbd_tree, output={"path": str(out)})
    promised: list[dict[str, object]] = []

    class Watch(Silent):
        def total(self, images: int) -> None:
            promised.append(manifest(out))

    generate(recipe, Watch())
    done = manifest(out)
    (promise,) = promised
    assert promise["status"] == "running"
    assert promise["counts"] == {}
    assert done["status"] == "complete"
    assert done["fingerprint"] == promise["fingerprint"] == recipe.fingerprint()
    assert done["counts"] == {"samples": 2, "scenes": 2, "skipped": 0, "failed": 0}
    assert done["recipe"]["synthesis"]["inference_steps"] == 4
    assert done["model"]["architecture"] == "HybridRSDiT"
    assert done["model"]["license"] == "CC0-1.0"
    assert len(done["model"]["sha256"]) == 64
    assert done["source"]["layout"] == "xbd"
    assert [scene["path"] for scene in done["scenes"]] == [
        f"images/flood_0000000{n}_pre_disaster.png" for n in (0, 1)
    ]  # fmt: skip
    logged = [json.loads(line) for path in (out / "train" / "events").iterdir() for line in path.open()]
    kinds = done["statistics"]["events"]
    assert {kind: sum(event["kind"] == kind for event in logged) for kind in kinds} == kinds
    shares = [share for row in rows(out) for share in row["changed_fraction"]]
    assert done["statistics"]["changed_share_mean"] == pytest.approx(np.mean(shares), abs=1e-4)
    names = {"README.md", "classes.json", "checksums.sha256", "preview.png", "manifest.json", "run.log"}
    assert names | {"shards", "train"} == {path.name for path in out.iterdir()}
    assert done["checksums"] == tree(out)["checksums.sha256"]


def test_batches_limits_and_readers_change_no_byte(pairs_tree, tmp_path, make_recipe) -> None:
    def run(name: str, **sections) -> dict[str, str]:
        generate(make_recipe(pairs_tree, output={"path": str(tmp_path / name)}, **sections))
        return tree(tmp_path / name, leave_out=("manifest.json", "README.md"))

    one = run("one", run={"batch_size": 1})
    three = run("three", run={"batch_size": 3})
    assert one == three
    assert len(rows(tmp_path / "one")) == 3
    limited = run("limited", limit=2, run={"batch_size": 2})
    samples = {name: digest for name, digest in limited.items() if name.startswith("train/") and "metadata" not in name}
    assert len(samples) == 2 * 9
    assert samples.items() <= one.items()
    assert rows(tmp_path / "limited") == rows(tmp_path / "one")[:2]


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_the_same_recipe_twice_gives_the_same_bytes(layout, xbd_tree, tmp_path, make_recipe) -> None:
    """Everything, the manifest too, once the folder is the same."""
    recipe = make_recipe(xbd_tree, output={"path": str(tmp_path / "out"), "format": layout, "mode": "overwrite"})
    generate(recipe)
    first = tree(tmp_path / "out")
    generate(recipe)
    assert tree(tmp_path / "out") == first
    assert len(first) == (28 if layout == "folder" else 10)


def test_seed_decides(xbd_tree, tmp_path, make_recipe) -> None:
    for seed in (0, 1):
        generate(make_recipe(xbd_tree, output={"path": str(tmp_path / str(seed))}, seed=seed, limit=1))
    first, second = (tree(tmp_path / name / "train") for name in ("0", "1"))
    assert first.keys() == second.keys()
    same = [name for name in first if first[name] == second[name]]
    assert [name for name in same if not name.startswith(("masks/", "instances/"))] == []
    assert [name for name in same if not name.endswith("_t0.png")] == []


def test_variants_differ(xbd_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    result = generate(
        make_recipe(xbd_tree, output={"path": str(out)}, synthesis={"nuisance": "mild"}, variants=2, limit=1)
    )
    first, second = rows(out)
    assert (result.samples, result.scenes) == (2, 1)
    assert (first["variant"], second["variant"]) == (0, 1)
    assert first["scene_id"] == second["scene_id"]
    assert (load(out, first["t1_mask_file_name"]) == load(out, second["t1_mask_file_name"])).all()
    assert (load(out, first["change_mask_file_name"]) != load(out, second["change_mask_file_name"])).any()
    assert (load(out, first["t1_image_file_name"]) != load(out, second["t1_image_file_name"])).any()


def test_negatives_change_nothing(xbd_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    recipe = make_recipe(
        xbd_tree,
        output={"path": str(out)},
        events={"negatives": "100%", "steps": 2},
        synthesis={"nuisance": "none"},
    )
    result = generate(recipe)
    assert result.samples == 2
    for row in rows(out):
        assert row["negative"] is True
        assert row["event_count"] == 0
        assert not any(load(out, name).any() for name in row["change_file_names"])
        dates = [load(out, name) for name in row["image_file_names"]]
        assert all((date == dates[0]).all() for date in dates)
        assert (out / "train" / row["events_file"]).read_text() == ""


def test_broken_files_are_counted_and_left_out(pairs_tree, tmp_path, make_recipe) -> None:
    (pairs_tree / "images" / "s1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    out = tmp_path / "out"
    told = Recording()
    recipe = make_recipe(pairs_tree, output={"path": str(out)}, source={"max_skipped": "40%"})
    result = generate(recipe, told)
    assert (result.samples, result.scenes, result.failed) == (2, 2, 1)
    assert manifest(out)["counts"] == {"samples": 2, "scenes": 2, "skipped": 1, "failed": 1}
    (skip,) = manifest(out)["skipped"]
    assert skip["path"] == "images/s1.png" and skip["failed"] and skip["reason"]
    assert sum("images/s1.png" in note for note in told.notes) == 1
    assert told.scenes[-1] == (3, 2)


def test_too_many_broken_files(pairs_tree, tmp_path, make_recipe) -> None:
    (pairs_tree / "images" / "s1.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    with pytest.raises(IncompleteError, match="1 of 3 images failed, more than --max-skipped 20%") as error:
        generate(make_recipe(pairs_tree, output={"path": str(out)}))
    assert error.value.exit_code == 3
    assert len(rows(out)) == 2
    assert manifest(out)["counts"]["failed"] == 1
    assert (out / "preview.png").exists()


def test_nothing_usable(pairs_tree, tmp_path, make_recipe) -> None:
    for path in (pairs_tree / "images").iterdir():
        path.write_bytes(b"nothing")
    out = tmp_path / "out"
    with pytest.raises(IncompleteError, match="no sample could be made"):
        generate(make_recipe(pairs_tree, output={"path": str(out)}))
    assert not out.exists(), "nothing made, nothing left"


def test_georeferenced_in_georeferenced_out(tmp_path, make_recipe) -> None:
    import rasterio
    from conftest import picture
    from rasterio.transform import Affine

    source, out = tmp_path / "geo", tmp_path / "out"
    (source / "images").mkdir(parents=True)
    (source / "masks").mkdir()
    image, numbers = picture(0, 192)
    transform = Affine(0.5, 0, 500_000, 0, -0.5, 5_200_000)
    profile = {"driver": "GTiff", "width": 192, "height": 192, "dtype": "uint8"}
    with rasterio.open(
        source / "images" / "a.tif", "w", count=3, crs="EPSG:32633", transform=transform, **profile
    ) as f:
        f.write(image.transpose(2, 0, 1))
    from PIL import Image

    mask = Image.fromarray((numbers > 0).astype(np.uint8))
    mask.save(source / "masks" / "a.png")
    recipe = make_recipe(
        source, source={"res": 96, "classes": ("background", "building")},
        output={"path": str(out)}, synthesis={"strength": 0.0, "nuisance": "none"}, events={"negatives": "100%"},
    )  # fmt: skip
    result = generate(recipe)
    assert result.samples == result.scenes == 4
    seen = set()
    for row in rows(out):
        for column in ("t1_image_file_name", "t2_image_file_name", "t2_mask_file_name", "change_mask_file_name"):
            with rasterio.open(out / "train" / row[column]) as file:
                assert file.crs.to_epsg() == 32633
                assert list(file.transform)[:6] == row["transform"]
                assert file.shape == (96, 96)
                col, line = ~transform @ (file.transform.c, file.transform.f)
                assert file.res == (0.5, 0.5)
                data = file.read()
        seen.add((int(line), int(col)))
        with rasterio.open(out / "train" / row["t1_image_file_name"]) as file:
            data = file.read().transpose(1, 2, 0)
        expected = image[int(line) : int(line) + 96, int(col) : int(col) + 96]
        assert (data == expected).all(), "the corner names the very pixels"
    assert len(seen) == 4
    assert (0, 0) in seen
    assert row["crs"] == "EPSG:32633"


def test_strength_zero_and_full_extent(xbd_tree, tmp_path, make_recipe) -> None:
    for name, synthesis in {"paste": {"strength": 0}, "noise": {"start": "noise", "extent": "full"}}.items():
        settings = {"model": make_recipe(xbd_tree).synthesis.model, "inference_steps": 3, **synthesis}
        result = generate(make_recipe(xbd_tree, output={"path": str(tmp_path / name)}, synthesis=settings, limit=1))
        assert result.samples == 1


def test_unlabelled_folders_beside_a_source_are_not_read(xbd_tree, tmp_path, make_recipe) -> None:
    """An output inside the input is no scene of the next run."""
    inside = xbd_tree / "made"
    generate(make_recipe(xbd_tree, output={"path": str(inside)}, limit=1))
    result = generate(make_recipe(xbd_tree, output={"path": str(tmp_path / "second")}))
    assert result.scenes == 2
    assert Path(manifest(tmp_path / "second")["scenes"][0]["path"]).parts[0] == "images"


def test_rims_of_moved_content_are_unknown_and_date_0_can_be_kept(xbd_tree, tmp_path, make_recipe) -> None:
    from changen_cli.exports.check_master import check_master

    kept, varied = (
        {"nuisance": {"lean": 0.3, "shift_px": 1}, "strength": 0} | more for more in ({"keep_date0": True}, {})
    )
    for name, synthesis in (("kept", kept), ("varied", varied)):
        generate(make_recipe(xbd_tree, output={"path": str(tmp_path / name)}, synthesis=synthesis, events={"steps": 2}))
        assert list(check_master(tmp_path / name)) == []
    exact = tmp_path / "exact"
    plain = {"nuisance": "none", "strength": 0}
    generate(make_recipe(xbd_tree, output={"path": str(exact)}, synthesis=plain, events={"steps": 2}))
    for row, sure in zip(rows(tmp_path / "kept"), rows(exact), strict=True):
        same = load(tmp_path / "kept", row["t1_image_file_name"]) == load(exact, sure["t1_image_file_name"])
        assert same.all() and row["acquisition"][0]["lean_row"] == 0 != row["acquisition"][1]["lean_row"]
        masks = [load(tmp_path / "kept", name) for name in row["mask_file_names"]]
        clean = [load(exact, name) for name in sure["mask_file_names"]]
        unknown = [(mask == 255) & (true != 255) for mask, true in zip(masks, clean, strict=True)]
        assert unknown[0].sum() == row["rim_px"] > 0
        assert all((one == unknown[0]).all() for one in unknown)
        assert all((mask == true)[~unknown[0]].all() for mask, true in zip(masks, clean, strict=True))
    first, second = rows(tmp_path / "varied")[0]["acquisition"][:2]
    assert first["lean_row"] != second["lean_row"] and first["lean_row"] != 0
