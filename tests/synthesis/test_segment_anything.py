from __future__ import annotations

import builtins

import numpy as np
import pytest

from changen_cli.core.errors import ModelError
from changen_cli.synthesis.segment_anything import SegmentAnything


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    """The folder of a Segment Anything model with random weights."""
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
            "output_channels": 16, "mlp_dim": 32, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8,
            "initializer_range": 0.5,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam")
    transformers.SamModel(config).save_pretrained(folder)
    return str(folder)


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
    with pytest.raises(ModelError, match="cannot be loaded as a Segment Anything model"):
        SegmentAnything(str(tmp_path))


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
