"""RS-DiT: parity with the published implementation, shapes it was not trained on, its zero start."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from changen_cli.core.errors import ModelError
from changen_cli.synthesis import RSDiT, load_published
from changen_cli.synthesis.blocks import timestep_features

FIXTURE = Path(__file__).parents[2].parent / "shared" / "fixtures" / "rsdit-tiny.safetensors"
needs_fixture = pytest.mark.skipif(not FIXTURE.is_file(), reason="the published fixture is not here")


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, int], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    from safetensors import safe_open

    with safe_open(FIXTURE, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
    return config, state, tensors


@needs_fixture
def test_parity_with_the_published_implementation(published) -> None:
    config, state, tensors = published
    model = load_published(state, num_heads=config["num_heads"], window_size=config["window_size"])
    with torch.no_grad():
        out = model(tensors["input.latent"], tensors["input.timestep"], tensors["input.label"]).sample
    assert out.shape == tensors["output"].shape
    assert tensors["output"].abs().max() > 0.1
    assert (out - tensors["output"]).abs().max() <= 1e-4


@needs_fixture
def test_parity_notices_a_wrong_window(published) -> None:
    """The fixture must be able to tell: with another window size the answer is another one."""
    config, state, tensors = published
    model = load_published(state, num_heads=config["num_heads"], window_size=8)
    with torch.no_grad():
        out = model(tensors["input.latent"], tensors["input.timestep"], tensors["input.label"]).sample
    assert (out - tensors["output"]).abs().max() > 1e-3


@needs_fixture
def test_published_state_shape_is_read_off_the_tensors(published) -> None:
    config, state, _ = published
    model = load_published(state, num_heads=config["num_heads"], window_size=config["window_size"])
    assert not model.training
    for key in ("patch_size", "in_channels", "hidden_size", "depth", "num_heads", "label_channels", "window_size"):
        assert model.config[key] == config[key]
    assert model.out_channels == 8
    assert set(model.state_dict()) == set(state)


@needs_fixture
@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("x_embedder.proj.weight"),
        lambda state: state.pop("y_embedder.convs.0.weight"),
        lambda state: state.pop("final_layer.linear.weight"),
        lambda state: state.pop("blocks.1.mlp.dwconv.weight"),
        lambda state: state.update({"blocks.0.attn.qkv.weight": torch.zeros(3, 3)}),
        lambda state: state.update({"x_embedder.proj.weight": torch.zeros(3)}),
        lambda state: state.update({"pos_embed": torch.zeros(1)}),
        lambda state: state.clear(),
    ],
)
def test_damaged_published_states(published, damage) -> None:
    config, state, _ = published
    broken = dict(state)
    damage(broken)
    with pytest.raises(ModelError) as error:
        load_published(broken, num_heads=config["num_heads"])
    assert "\n" not in str(error.value)


def test_a_new_model_answers_zeros() -> None:
    torch.manual_seed(0)
    model = RSDiT(hidden_size=32, depth=4, num_heads=2, window_size=4)
    out = model(torch.randn(1, 4, 8, 8), 500, torch.ones(1, 1, 64, 64)).sample
    assert out.shape == (1, 8, 8, 8)
    assert not out.any()
    # Zero gates: every block is the identity at first.
    tokens = torch.randn(1, 4, 4, 32)
    assert torch.equal(model.blocks[0](tokens, torch.randn(1, 4, 4, 32)), tokens)


@pytest.mark.parametrize("shape", [(8, 8), (10, 14), (2, 18), (22, 6)])
def test_token_grids_of_any_size(tiny_rsdit, shape) -> None:
    """Grids that are no multiple of the 4-token window, smaller and larger."""
    model = tiny_rsdit()
    x, label = torch.randn(2, 4, *shape), torch.rand(2, 1, shape[0] * 8, shape[1] * 8).round()
    with torch.no_grad():
        out = model(x, torch.tensor([3, 900]), label).sample
    assert out.shape == (2, 8, *shape)
    assert out.isfinite().all()
    assert out.std() > 1e-3
    with torch.no_grad():
        again = model(x[1:], 900, label[1:]).sample
    torch.testing.assert_close(out[1:], again, atol=1e-5, rtol=1e-4)


def test_windows_are_filled_with_zeros_and_attended(tiny_rsdit) -> None:
    """As published: in the windowed blocks a grid that does not fit equals one padded with zero tokens."""
    block = tiny_rsdit().blocks[0]
    tokens = torch.randn(1, 6, 5, 32)
    padded = torch.zeros(1, 8, 8, 32)
    padded[:, :6, :5] = tokens
    with torch.no_grad():
        torch.testing.assert_close(block.attend(tokens), block.attend(padded)[:, :6, :5], atol=1e-6, rtol=1e-5)


def test_every_fourth_block_is_global(tiny_rsdit) -> None:
    model = tiny_rsdit(depth=8)
    assert [block.window_size for block in model.blocks] == [4, 4, 4, 0, 4, 4, 4, 0]
    tokens = torch.randn(1, 8, 8, 32)
    far = tokens.clone()
    far[:, 7, 7] += 1
    with torch.no_grad():
        windowed = [model.blocks[0].attend(t)[:, 0, 0] for t in (tokens, far)]
        everywhere = [model.blocks[3].attend(t)[:, 0, 0] for t in (tokens, far)]
    assert torch.equal(*windowed)
    assert not torch.allclose(*everywhere)


def test_label_embedded_before_or_inside(tiny_rsdit) -> None:
    model = tiny_rsdit()
    x, label = torch.randn(1, 4, 8, 8), torch.rand(1, 1, 64, 64).round()
    with torch.no_grad():
        assert torch.equal(model(x, 7, label).sample, model(x, 7, label_embedding=model.embed_label(label)).sample)
        assert not torch.equal(model(x, 7, label).sample, model(x, 7, 1 - label).sample)
    with pytest.raises(ValueError, match="label"):
        model(x, 7)


def test_on_pixels_with_a_condition(tiny_rsdit) -> None:
    model = tiny_rsdit(in_channels=3, condition_channels=4, label_channels=2, learn_sigma=False, codec="pixel")
    x, label, condition = torch.randn(1, 3, 16, 24), torch.zeros(1, 2, 16, 24), torch.randn(1, 4, 16, 24)
    with torch.no_grad():
        out = model(x, 7, label, condition=condition).sample
        assert out.shape == (1, 3, 16, 24)
        assert not torch.allclose(out, model(x, 7, label, condition=condition + 1).sample)


def test_timestep_features_against_the_formula() -> None:
    steps = torch.tensor([0, 1, 37, 999])
    got = timestep_features(steps, 256).double().numpy()
    assert got.shape == (4, 256)
    for row, t in zip(got, (0, 1, 37, 999), strict=True):
        for index in (0, 1, 2, 63, 127):
            angle = t * math.exp(-math.log(10_000) * index / 128)
            np.testing.assert_allclose(row[index], math.cos(angle), atol=1e-4)
            np.testing.assert_allclose(row[128 + index], math.sin(angle), atol=1e-4)
