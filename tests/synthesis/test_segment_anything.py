from __future__ import annotations

import builtins
import hashlib
import json
import shutil

import numpy as np
import pytest

from changen_cli.core.errors import ModelError
from changen_cli.synthesis.hub import find_segmenter
from changen_cli.synthesis.segment_anything import SegmentAnything


@pytest.mark.parametrize("shape", [(96, 64), (40, 150), (64, 64)])
def test_objects_are_numbered_and_do_not_overlap(tiny_sam, shape) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    # Random weights are sure of nothing: everything they say is taken.
    sam = SegmentAnything(tiny_sam, points_per_side=7, least_iou=-9.0, least_stability=0.0)
    found = sam(image)
    assert found.dtype == np.int32 and found.shape == shape
    sizes = np.bincount(found.ravel())
    assert (sizes > 0).all(), "numbered without gaps"
    assert (sizes[1:] >= 64).all()
    assert np.array_equal(found, sam(image))
    sure = SegmentAnything(tiny_sam, points_per_side=2, least_iou=9.0)
    assert not sure(image).any()


def test_masks_fall_where_the_model_puts_them(tiny_sam) -> None:
    import torch

    sam = SegmentAnything(tiny_sam)
    logits = torch.full((2, 64, 64), -9.0)
    logits[0, 8:12, 16:24] = 9.0  # of the padded image, 64 px, of which the upper half is image
    logits[1, 8:12, 16:24] = 9.0
    (found,) = sam._sure(logits, torch.tensor([0.9, 0.5]), (100, 200), (64, 1000))
    score, (rows, cols), mask = found
    assert score == pytest.approx(0.9)
    assert abs(rows.start - 25) <= 2 and abs(rows.stop - 37) <= 2
    assert abs(cols.start - 50) <= 2 and abs(cols.stop - 75) <= 2
    assert mask.mean() > 0.9


def test_what_is_no_model_is_named(tmp_path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="holds no weights"):
        SegmentAnything(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded as a Segment Anything model"):
        SegmentAnything(str(tmp_path))


@pytest.mark.parametrize(
    ("card", "config", "licence"),
    [
        ("---\ntags: [vision]\nlicense: apache-2.0\n---\n# SAM\n", {"license": "mit"}, "apache-2.0"),
        ("# SAM\nlicense: none of the head\n", {"license": "mit"}, "mit"),
        ("---\nlicense: [\n---\n", {}, "not stated"),
        (None, {}, "not stated"),
    ],
)
def test_the_model_is_recorded(tiny_sam, tmp_path, card, config, licence) -> None:
    folder = tmp_path / "some-sam"
    shutil.copytree(tiny_sam, folder)
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(written | config))
    if card is not None:
        (folder / "README.md").write_text(card)
    record = SegmentAnything(str(folder)).record
    assert (record.id, record.license) == ("some-sam", licence)
    assert record.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_weights_in_several_files_have_one_hash(tiny_sam, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "shards"
    transformers.SamModel.from_pretrained(tiny_sam).save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(shards) > 1
    record = SegmentAnything(str(folder)).record
    assert sorted(record.facts["files"]) == shards
    assert find_segmenter(str(folder)).names == ("config.json", "model.safetensors.index.json", *shards)
    (folder / shards[1]).unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        SegmentAnything(str(folder))


def test_a_missing_package_is_named_with_its_remedy(monkeypatch) -> None:
    real = builtins.__import__

    def refuse(name, *rest):
        if name.split(".")[0] == "transformers":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModelError) as error:
        SegmentAnything("any")
    assert "transformers" in str(error.value) and "changen[sam]" in str(error.value)
