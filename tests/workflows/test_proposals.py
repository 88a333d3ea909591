"""Images without masks, from the folder to the dataset."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from changen_cli.cli.app import app
from changen_cli.core.errors import UsageError
from changen_cli.workflows.generate import generate

from .conftest import load, manifest, rows, tree


def test_regions_are_removed(photos, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    made = generate(make_recipe(photos, output={"path": str(out)}, synthesis={"nuisance": "none"}))
    assert made.samples == 2
    assert set(made.statistics["events"]) == {"remove"}
    for row in rows(out):
        before, after = load(out, row["t1_mask_file_name"]), load(out, row["t2_mask_file_name"])
        change = load(out, row["change_mask_file_name"]) > 0
        assert np.array_equal(change, before != after) and change.any()
        assert set(np.unique(before)) == {0, 1} and not after[change].any()
        moved = (load(out, row["t1_image_file_name"]) != load(out, row["t2_image_file_name"])).any(axis=-1)
        assert moved[change].mean() > 0.5, "what is removed looks different"
    done = manifest(out)
    assert done["source"]["classes"] == ["none", "object"]
    assert "not ground truth" in done["source"]["labels"]
    assert done["source"]["event_kinds"] == ["remove"]
    assert all(scene["notes"]["proposals"] > 0 for scene in done["scenes"])
    card = (out / "README.md").read_text()
    assert "class-agnostic object proposals (graph segmentation), not ground truth" in card
    assert "object creation" not in card and "Labels are exact" not in card
    again = tmp_path / "again"
    generate(make_recipe(photos, output={"path": str(again)}, synthesis={"nuisance": "none"}))
    assert tree(out / "train") == tree(again / "train")


def test_creation_on_request(photos, tmp_path, make_recipe) -> None:
    recipe = make_recipe(photos, output={"path": str(tmp_path / "out")}, events={"kinds": ("create",)})
    assert set(generate(recipe).statistics["events"]) == {"create"}


def test_regions_swap_places_with_ground(photos, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"
    events = {"kinds": ("remove", "swap"), "change_area": "12%"}
    made = generate(make_recipe(photos, output={"path": str(out)}, events=events, synthesis={"nuisance": "none"}))
    assert set(made.statistics["events"]) == {"remove", "swap"}
    for row in rows(out):
        before, after = load(out, row["t1_mask_file_name"]), load(out, row["t2_mask_file_name"])
        change = load(out, row["change_mask_file_name"]) > 0
        assert np.array_equal(change, before != after)
        logged = [json.loads(text) for text in (out / "train" / row["events_file"]).read_text().splitlines()]
        assert sum(event["area_px"] for event in logged) == change.sum()
        swaps = [event for event in logged if event["kind"] == "swap"]
        for gone, here in zip(swaps[::2], swaps[1::2], strict=True):
            assert gone["object_id"] == here["object_id"] == here["source_object"]
            assert (gone["from_name"], gone["to_name"]) == ("object", "none")
            assert (here["from_name"], here["to_name"]) == ("none", "object")
    assert "object removal and object relocation" in (out / "README.md").read_text()


def test_a_flat_image_gives_a_series_without_change(tmp_path, make_recipe) -> None:
    source = tmp_path / "flat"
    source.mkdir()
    Image.fromarray(np.full((80, 80, 3), 90, np.uint8)).save(source / "a.png")
    made = generate(make_recipe(source, output={"path": str(tmp_path / "out")}))
    assert made.samples == 1
    assert made.statistics["steps_with_asked_area"] == 0 and not made.statistics["events"]
    assert "no object left to remove" in json.dumps(rows(tmp_path / "out"))


@pytest.mark.parametrize(
    ("labelled", "section", "says"),
    [(True, {"proposals": "regions"}, "has masks"), (False, {"classes": ("background", "building")}, "--classes")],
)
def test_what_does_not_fit_is_refused(xbd_tree, photos, make_recipe, labelled, section, says) -> None:
    with pytest.raises(UsageError, match=says):
        generate(make_recipe(xbd_tree if labelled else photos, source=section))


def test_proposals_make_no_transitions(photos, make_recipe) -> None:
    recipe = make_recipe(photos, events={"kinds": ("remove", "transition")})
    with pytest.raises(UsageError, match="nobody knows what becomes what"):
        generate(recipe)


def test_from_the_command_line(photos, tmp_path, model_file) -> None:
    from typer.testing import CliRunner

    common = [
        "generate",
        "-i",
        str(photos),
        "-m",
        str(model_file),
        "--inference-steps",
        "4",
        "--device",
        "cpu",
        "--no-gate",
    ]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*common, "-o", str(out)])
    assert done.exit_code == 0, done.stderr
    assert "class-agnostic object proposals" in " ".join(done.stderr.split())
    assert len(rows(out)) == 2
    refused = CliRunner().invoke(app, [*common, "-o", str(tmp_path / "other"), "--proposals", "none"])
    assert refused.exit_code == 2
    planned = CliRunner().invoke(app, [*common, "--dry-run", "--json"])
    assert json.loads(planned.stdout)["samples"] == 2


def test_segment_anything(photos, tmp_path, make_recipe, monkeypatch) -> None:
    from changen_cli.synthesis import segment_anything

    asked = []

    class OneBox:
        def __init__(self, model: str, device: str) -> None:
            asked.append((model, device))

        def __call__(self, image: np.ndarray, gsd_m: float | None) -> np.ndarray:
            numbers = np.zeros(image.shape[:2], np.int32)
            numbers[40:70, 40:70] = 1
            return numbers

    monkeypatch.setattr(segment_anything, "SegmentAnything", OneBox)
    out = tmp_path / "out"
    recipe = make_recipe(
        photos,
        output={"path": str(out)},
        source={"proposals": "sam", "sam_model": "some/sam"},
        events={"change_area": "5%"},
    )
    assert generate(recipe).statistics["events"] == {"remove": 2}
    assert asked == [("some/sam", "cpu")]
    assert "(Segment Anything, some/sam)" in manifest(out)["source"]["labels"]


def test_the_segmentation_model_is_recorded(photos, tiny_sam, tmp_path, make_recipe) -> None:
    """A real one, with random weights: it is sure of nothing, and still says what it is."""
    model = shutil.copytree(tiny_sam, tmp_path / "sam")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    out = tmp_path / "out"
    source = {"proposals": "sam", "sam_model": str(model)}
    generate(make_recipe(photos, output={"path": str(out)}, source=source, limit=1))
    record = manifest(out)["source"]["proposals_model"]
    assert record["sha256"] == hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert record["license"] == "apache-2.0"
    card = (out / "README.md").read_text()
    assert f"class-agnostic object proposals (Segment Anything, {model}, licence apache-2.0)" in card
