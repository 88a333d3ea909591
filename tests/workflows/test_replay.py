"""A sample can be made again from what its dataset says of it, and of nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import ModelError, OutputError, SceneError, UsageError
from changen_cli.workflows.generate import generate
from changen_cli.workflows.replay import replay
from changen_cli.workflows.simulate import simulate_dataset
from tests.conftest import picture, write_pairs, write_xbd

from .conftest import manifest, tree
from .runs import change

SAMPLE = "s1_v01"


@pytest.fixture
def recipe(tmp_path, make_recipe):
    """Two scenes, two variants, two steps."""
    folder = write_pairs(tmp_path / "in", 2, size=96)
    few = {"inference_steps": 2, "strength": 0.5}
    return make_recipe(folder, output={"path": str(tmp_path / "out")}, variants=2, events={"steps": 2}, synthesis=few)


@pytest.fixture
def masks(recipe) -> Path:
    """Its masks."""
    simulate_dataset(recipe)
    return recipe.output_path


def edit_manifest(out: Path, **values) -> None:
    path = out / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("make", [generate, simulate_dataset])
@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_it_is_the_same(make, layout, recipe, tmp_path) -> None:
    recipe = change(recipe, output={"format": layout}, run={"batch_size": 3, "shard_size": 2})
    make(recipe)
    out = recipe.output_path
    before = tree(out)
    images = 1 if make is generate else 0
    done = replay(out, SAMPLE)
    assert done.identical and done.labels_equal and not done.elsewhere
    assert len(done.files) == 3 * (2 + images) + 2 + 3
    for step in (0, 1):
        part = replay(out, SAMPLE, step=step)
        assert part.identical and len(part.files) == 2 * (2 + images) + 1 + 1
        names = " ".join(file.name for file in part.files)
        assert f"_t{step}_t{step + 1}" in names and f"_t{2 - 2 * step}." not in names
    assert tree(out) == before, "the dataset is only read"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_an_archive(kind, tmp_path, make_recipe) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "xbd"), kind, write_xbd(tmp_path / "tree", 2, size=96)))
    made = make_recipe(archive, output={"path": str(tmp_path / "out")})
    simulate_dataset(made)
    shutil.rmtree(tmp_path / "tree")
    assert replay(tmp_path / "out", "flood_00000001_v00").identical
    moved = archive.rename(tmp_path / f"elsewhere.{kind}")
    with pytest.raises(UsageError, match=f"xbd.{kind}, of which .*out was made, is gone.*--input"):
        replay(tmp_path / "out", "flood_00000001_v00")
    assert replay(tmp_path / "out", "flood_00000001_v00", source=moved).identical
    assert {path.name for path in tmp_path.iterdir()} == {"out", moved.name}, "nothing is left beside"


def test_of_a_dataset_that_grew(recipe, tmp_path) -> None:
    recipe = change(recipe, output={"mode": "extend"})
    generate(change(recipe, variants=1))
    image, numbers = picture(9, 96)
    for folder, pixels in (("images", image), ("masks", (numbers > 0).astype("uint8"))):
        Image.fromarray(pixels).save(tmp_path / "in" / folder / "a0.png")  # sorts before all others
    generate(recipe)
    for sample in ("s1_v00", "a0_v01"):
        assert replay(recipe.output_path, sample).identical


def test_of_proposals_tiles_and_calendar_dates(photos, tmp_path, make_recipe) -> None:
    made = make_recipe(
        photos,
        source={"res": 64},
        events={"dates": "2018,2019,2021", "negatives": 0.5},
        synthesis={"inference_steps": 2},
        output={"path": str(tmp_path / "out")},
        limit=2,
    )
    generate(made)
    for scene in manifest(tmp_path / "out")["scenes"]:
        assert replay(tmp_path / "out", f"{scene['id']}_v00").identical
        assert replay(tmp_path / "out", f"{scene['id']}_v00", step=0).identical


def test_what_differs_is_named(recipe, tmp_path) -> None:
    generate(recipe)
    train = recipe.output_path / "train"
    image = np.array(Image.open(train / "images" / f"{SAMPLE}_t2.png"))
    image[0, 0, 0] ^= 16  # a mean squared error of 256 / (3 * 96 * 96)
    Image.fromarray(image).save(train / "images" / f"{SAMPLE}_t2.png")
    mask = np.array(Image.open(train / "masks" / f"{SAMPLE}_t0.png"))
    Image.fromarray(mask).save(train / "masks" / f"{SAMPLE}_t0.png", compress_level=0)
    mask[:2, :3] = 1
    Image.fromarray(mask).save(train / "masks" / f"{SAMPLE}_t1.png")
    (train / "changes" / f"{SAMPLE}_t0_t1.png").unlink()
    log = train / "events" / f"{SAMPLE}.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[1:]))
    done = replay(recipe.output_path, SAMPLE, output=tmp_path / "copy")
    found = {file.name: file for file in done.files if file.state != "identical"}
    assert {name: file.state for name, file in found.items()} == {
        f"train/images/{SAMPLE}_t2.png": "differs",
        f"train/masks/{SAMPLE}_t0.png": "same content",
        f"train/masks/{SAMPLE}_t1.png": "differs",
        f"train/changes/{SAMPLE}_t0_t1.png": "unreadable",
        "events": "differs",
    }
    assert not done.identical and not done.labels_equal
    psnr = found[f"train/images/{SAMPLE}_t2.png"].psnr_db
    assert psnr == pytest.approx(10 * np.log10(255**2 * 3 * 96 * 96 / 256), abs=0.01)
    assert "changed after it was written" in found[f"train/images/{SAMPLE}_t2.png"].note
    assert " of 9216 pixels" in found[f"train/masks/{SAMPLE}_t1.png"].note
    copy = tmp_path / "copy" / "train" / "changes" / f"{SAMPLE}_t0_t1.png"
    assert copy.is_file(), "what was lost can be had again"
    assert replay(recipe.output_path, SAMPLE, step=1).labels_equal is False
    assert not replay(recipe.output_path, "s0_v00").elsewhere


def test_another_device_and_version_are_told(recipe) -> None:
    """A dataset drawn in half precision by a device that is not here."""
    generate(change(recipe, run={"dtype": "bfloat16"}))
    out = recipe.output_path
    assert replay(out, SAMPLE).identical
    edit_manifest(out, device="mps:0", versions=manifest(out)["versions"] | {"torch": "1.0"})
    done = replay(out, SAMPLE)
    assert [line.partition(",")[0] for line in done.elsewhere] == [
        "torch was 1.0",
        "device was mps",
        "precision was bfloat16",
    ]
    assert not done.identical and done.labels_equal
    psnrs = [file.psnr_db for file in done.files if file.state == "differs"]
    assert len(psnrs) == 2 and min(psnrs) > 30, "date 0 is not drawn"


def test_the_input_may_have_moved_but_not_changed(masks, tmp_path) -> None:
    moved = (tmp_path / "in").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"in, of which .* is gone\. Give the folder as it was with --input"):
        replay(masks, SAMPLE)
    assert replay(masks, SAMPLE, source=moved).identical
    path = moved / "masks" / "s1.png"
    good = path.read_bytes()
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(path)
    with pytest.raises(SceneError, match=r"s1.png or its label changed \(SHA-256 \w{12}, was \w{12}\), and s1_v01 was"):
        replay(masks, SAMPLE, source=moved)
    with pytest.raises(SceneError, match=r"s1.png .* and s0_v00 has objects and ground made of its pixels"):
        replay(masks, "s0_v00", source=moved)
    path.write_bytes(good)
    (moved / "images" / "s1.png").unlink()
    with pytest.raises(UsageError, match=r"s1.png is gone, and s0_v00 has objects"):
        replay(masks, "s0_v00", source=moved)


def test_another_model_is_told(recipe, tmp_path, model_file, tiny_hybrid) -> None:
    from changen_cli.synthesis.models import save_model

    model = tmp_path / "model.safetensors"
    shutil.copy(model_file, model)
    recipe = change(recipe, synthesis={"model": str(model)})
    generate(change(recipe, limit=1))
    save_model(tiny_hybrid(seed=5), model, images_seen=0)
    with pytest.raises(ModelError, match=r"model.safetensors is not the one .* \(SHA-256 \w{12}, was \w{12}\)"):
        replay(recipe.output_path, "s0_v00")
    model.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        replay(recipe.output_path, "s0_v00")


def test_requests_that_cannot_be_met(masks, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"has no sample s1_v1\. Nearest: s1_v01"):
        replay(masks, "s1_v1")
    with pytest.raises(UsageError, match=r"has no step 2\. Name one from 0 to 1"):
        replay(masks, SAMPLE, step=2)
    with pytest.raises(UsageError, match="is no folder"):
        replay(tmp_path / "nothing", SAMPLE)
    for output in (masks / "copy", masks, tmp_path):
        with pytest.raises(OutputError, match="would lie in the dataset, or hold it"):
            replay(masks, SAMPLE, output=output)
    with pytest.raises(OutputError, match="exists already"):
        replay(masks, SAMPLE, output=tmp_path / "in")
    shutil.rmtree(masks / "shards")
    with pytest.raises(OutputError, match=r"has no records of what its samples were made of \(shards/\)"):
        replay(masks, SAMPLE)


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_the_copy_is_kept_where_it_is_wanted(layout, recipe, tmp_path) -> None:
    recipe = change(recipe, output={"format": layout})
    simulate_dataset(change(recipe, limit=1, variants=1))
    copy = tmp_path / "new" / "copy"
    assert replay(recipe.output_path, "s0_v00", output=copy).output == copy
    kept = {name: digest for name, digest in tree(recipe.output_path).items() if name.startswith(("train/", "data/"))}
    assert kept and kept.items() <= tree(copy).items()
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
