from __future__ import annotations

import pytest
import torch

from changen_cli.synthesis import HybridRSDiT


def inputs(height: int, width: int, seed: int = 0, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    label = torch.rand(batch, 2, height, width, generator=draw).round()
    return (
        torch.randn(batch, 3, height, width, generator=draw),
        label,
        torch.randn(batch, 4, height, width, generator=draw),
    )


def test_a_new_model_answers_zeros() -> None:
    torch.manual_seed(0)
    model = HybridRSDiT(widths=(8, 8, 8), blocks_per_level=(1, 1, 1), hidden_size=16, depth=2, num_heads=2)
    x, label, condition = inputs(16, 16)
    out = model(x, 500, label, condition=condition).sample
    assert out.shape == x.shape
    assert not out.any()
    # No position embedding, no learned sigma, and the transformer starts as the identity too.
    tokens = torch.randn(1, 4, 4, 16)
    assert torch.equal(model.blocks[0](tokens, torch.randn(1, 4, 4, 16)), tokens)


@pytest.mark.parametrize("shape", [(8, 8), (24, 40), (72, 16), (8, 136)])
def test_any_resolution(tiny_hybrid, shape) -> None:
    """Token grids that are no multiple of the window, smaller and larger."""
    model = tiny_hybrid(window_size=4, depth=4)
    x, label, condition = inputs(*shape)
    with torch.no_grad():
        out = model(x, 300, label, condition=condition).sample
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert out.std() > 1e-3


def test_translation_equivariance(tiny_hybrid) -> None:
    """Moved by one attention window the answer moves along, but for the border the convolutions see."""
    model = tiny_hybrid(window_size=2)
    x, label, condition = inputs(128, 112)
    with torch.no_grad():
        whole = model(x, 300, label, condition=condition).sample
        shifted = model(x[..., 16:, 32:], 300, label[..., 16:, 32:], condition=condition[..., 16:, 32:]).sample
    torch.testing.assert_close(shifted[..., 48:, 48:], whole[..., 64:, 80:], atol=1e-5, rtol=1e-4)
    moved = whole[..., 63:-1, 79:-1]
    assert (shifted[..., 48:, 48:] - moved).abs().max() > 1e-2


def test_label_embedded_before_or_inside(tiny_hybrid) -> None:
    model = tiny_hybrid()
    x, label, condition = inputs(16, 24)
    with torch.no_grad():
        inside = model(x, 7, label, condition=condition).sample
        before = model(x, 7, label, label_embedding=model.embed_label(label), condition=condition).sample
        other = model(x, 7, 1 - label, condition=condition).sample
    assert torch.equal(inside, before)
    assert not torch.allclose(inside, other)


def test_everything_it_is_told_matters(tiny_hybrid) -> None:
    model = tiny_hybrid()
    x, label, condition = inputs(16, 16)
    with torch.no_grad():
        base = model(x, 7, label, condition=condition).sample
        assert not torch.allclose(base, model(x, 800, label, condition=condition).sample)
        assert not torch.allclose(base, model(x, 7, label, condition=-condition).sample)
        assert not torch.allclose(base, model(-x, 7, label, condition=condition).sample)


def test_a_batch_equals_its_samples(tiny_hybrid) -> None:
    model = tiny_hybrid()
    x, label, condition = inputs(16, 16, batch=2)
    with torch.no_grad():
        both = model(x, torch.tensor([5, 700]), label, condition=condition).sample
        second = model(x[1:], 700, label[1:], condition=condition[1:]).sample
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-4)
