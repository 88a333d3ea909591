"""Tiny real components: models of a few thousand random weights, and input folders of a few small scenes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from changen_cli.core.recipe import Recipe, build_recipe

# The same examples on every machine and every run; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", deadline=None)
# `make fuzz`: new examples every round.
settings.register_profile("fuzz", deadline=None, database=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

TINY = {
    "widths": (8, 8, 8),
    "blocks_per_level": (1, 1, 1),
    "hidden_size": 16,
    "depth": 1,
    "num_heads": 2,
    "window_size": 4,
}


def randomise(model: Any, seed: int = 0) -> Any:
    """Fill every parameter with noise: a new model is zero-initialised and would answer zeros."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.5 / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.eval()


@pytest.fixture
def tiny_hybrid() -> Callable[..., Any]:
    """Return ``make(seed=0, **settings)``: a HybridRSDiT with random weights."""

    def make(seed: int = 0, **settings: Any) -> Any:
        from changen_cli.synthesis import HybridRSDiT

        return randomise(HybridRSDiT(**(TINY | settings)), seed)

    return make


@pytest.fixture
def tiny_rsdit() -> Callable[..., Any]:
    """Return ``make(seed=0, **settings)``: an RSDiT with random weights."""

    def make(seed: int = 0, **settings: Any) -> Any:
        from changen_cli.synthesis import RSDiT

        return randomise(RSDiT(**({"hidden_size": 32, "depth": 4, "num_heads": 2, "window_size": 4} | settings)), seed)

    return make


@pytest.fixture
def tiny_autoencoder(tmp_path: Path) -> Callable[..., Path]:
    """Return ``make(latent_channels=4, levels=4)``: the folder of an AutoencoderKL with random weights."""

    def make(latent_channels: int = 4, levels: int = 4) -> Path:
        import torch
        from diffusers import AutoencoderKL

        torch.manual_seed(0)
        model = AutoencoderKL(
            block_out_channels=(8,) * levels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            norm_num_groups=4,
            layers_per_block=1,
            latent_channels=latent_channels,
        )
        model.save_pretrained(tmp_path / "tiny-vae")
        return tmp_path / "tiny-vae"

    return make


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny hybrid on disk."""
    from changen_cli.synthesis import HybridRSDiT
    from changen_cli.synthesis.models import save_model

    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(randomise(HybridRSDiT(**TINY, license="CC0-1.0")), path, images_seen=0)
    return path


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> str:
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


def picture(seed: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Textured ground with bright rectangles, uint8 ``[H, W, 3]``, and their numbers 1..N, int32 ``[H, W]``."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(0, 60, (size, size, 3)), (1.5, 1.5, 0)) + np.array([90, 110, 80])
    numbers = np.zeros((size, size), np.int32)
    step = size // 3
    for index in range(9):
        row, col = divmod(index, 3)
        if index == 4:
            continue  # free ground to build on
        height, width = rng.integers(12, 20, 2)
        top, left = row * step + int(rng.integers(4, 12)), col * step + int(rng.integers(4, 12))
        numbers[top : top + height, left : left + width] = numbers.max() + 1
    ground[numbers > 0] += (110, 70, 60)
    return np.clip(ground, 0, 255).astype(np.uint8), numbers


def write_xbd(root: Path, count: int = 2, size: int = 128) -> Path:
    """An xBD tree of ``count`` scenes; buildings have uids ``<scene>-<number>``."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for scene in range(count):
        image, numbers = picture(scene, size)
        name = f"flood_{scene:08d}_pre_disaster"
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        features = []
        for number in range(1, numbers.max() + 1):
            rows, cols = np.nonzero(numbers == number)
            r0, r1, c0, c1 = rows.min(), rows.max() + 1, cols.min(), cols.max() + 1
            wkt = f"POLYGON (({c0} {r0}, {c1} {r0}, {c1} {r1}, {c0} {r1}, {c0} {r0}))"
            uid = {"feature_type": "building", "uid": f"{scene}-{number}"}
            features.append({"properties": uid, "wkt": wkt})
        content = {"features": {"lng_lat": [], "xy": features}, "metadata": {}}
        (root / "labels" / f"{name}.json").write_text(json.dumps(content))
    return root


def write_pairs(root: Path, count: int = 3, size: int = 128) -> Path:
    """``images/`` beside ``masks/``: background 0, building 1, and a road 2 along the upper edge."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for scene in range(count):
        image, numbers = picture(100 + scene, size)
        mask = (numbers > 0).astype(np.uint8)
        mask[:3] = 2
        Image.fromarray(image).save(root / "images" / f"s{scene}.png")
        Image.fromarray(mask).save(root / "masks" / f"s{scene}.png")
    return root


@pytest.fixture
def xbd_tree(tmp_path: Path) -> Path:
    """Two scenes in xBD layout."""
    return write_xbd(tmp_path / "xbd")


@pytest.fixture
def pairs_tree(tmp_path: Path) -> Path:
    """Three scenes as pairs."""
    return write_pairs(tmp_path / "pairs")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images without masks."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for scene in range(2):
        Image.fromarray(picture(200 + scene)[0]).save(folder / f"p{scene}.png")
    return folder


@pytest.fixture
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the caches of ``datasets`` to a fresh folder and keep it off the network."""
    import datasets
    import huggingface_hub.constants

    cache = tmp_path_factory.mktemp("hf")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", cache / "modules")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


CLASSES = ("background", "building", "road")


@pytest.fixture
def make_recipe(model_file: Path) -> Callable[..., Recipe]:
    """Return ``make(folder, **sections)``: a recipe with the tiny model and few denoising steps."""

    def make(folder: Path, /, **sections: Any) -> Recipe:
        values: dict[str, Any] = {
            "source": {"input": str(folder)},
            "synthesis": {"model": str(model_file), "inference_steps": 4, "strength": 0.5},
            # What random weights draw is none of the gate's business.
            "gate": {"enabled": False},
            "run": {"device": "cpu", "threads": 1},
        }
        if (folder / "masks").is_dir():
            values["source"]["classes"] = CLASSES
        for key, value in sections.items():
            if isinstance(value, dict):
                values[key] = values.get(key, {}) | value
            else:
                values[key] = value
        return build_recipe(values)

    return make
