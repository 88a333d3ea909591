"""The fast path equals the plain one of the benchmark: same weights, same answer, in strips, batches and bfloat16."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from changen_cli.synthesis import blocks, hybrid
from changen_cli.synthesis.blocks import Attention, run_blocks
from changen_cli.synthesis.hybrid import in_strips

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "synthesis.py"


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_path", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def given(kind: str, height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    draw = torch.Generator().manual_seed(1)
    label = torch.rand(batch, 2 if kind == "hybrid" else 1, height, width, generator=draw).round()
    if kind == "rsdit":
        return torch.randn(batch, 4, height // 8, width // 8, generator=draw), label, None
    sample = torch.randn(batch, 3, height, width, generator=draw)
    return sample, label, torch.randn(batch, 4, height, width, generator=draw)


@pytest.fixture
def model(request, tiny_hybrid, tiny_rsdit):
    made = tiny_hybrid(depth=4) if request.param == "hybrid" else tiny_rsdit()
    return request.param, made.to(memory_format=torch.channels_last)


both = pytest.mark.parametrize("model", ["rsdit", "hybrid"], indirect=True)


@both
@pytest.mark.parametrize("shape", [(32, 32), (48, 80), (16, 144)])
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_plain_path(plain, model, shape, batch) -> None:
    kind, fast = model
    sample, label, condition = given(kind, *shape, batch=batch)
    with torch.no_grad():
        expected = plain.plain_forward(fast, sample, label, condition, None, False)
        embedding = fast.embed_label(label)
        got = fast(sample, plain.TIMESTEP, label, label_embedding=embedding, condition=condition).sample
    assert expected.std() > 1e-2
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@both
def test_equals_itself_with_gradients(model) -> None:
    """Training takes other kernels, and every parameter gets its gradient."""
    kind, fast = model
    sample, label, condition = given(kind, 32, 48, batch=2)
    steps = torch.tensor([20, 900])
    trained = fast(sample, steps, label, condition=condition).sample
    with torch.no_grad():
        inferred = fast(sample, steps, label, condition=condition).sample
    torch.testing.assert_close(trained.detach(), inferred, atol=1e-5, rtol=1e-5)
    trained.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in fast.parameters())


@both
def test_gradients_under_autocast(model) -> None:
    kind, fast = model
    sample, label, condition = given(kind, 32, 48, batch=2)
    with torch.autocast("cpu", torch.bfloat16):
        out = fast(sample, torch.tensor([20, 900]), label, condition=condition).sample
    out.float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in fast.parameters())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        again = fast(sample, torch.tensor([20, 900]), label, condition=condition).sample
    torch.testing.assert_close(again.float(), out.detach().float(), atol=2e-2, rtol=2e-2)


@both
def test_nothing_given_is_overwritten(model) -> None:
    kind, fast = model
    inputs = given(kind, 32, 48)
    before = [None if one is None else one.clone() for one in inputs]
    weights = {name: value.clone() for name, value in fast.state_dict().items()}
    sample, label, condition = inputs
    with torch.no_grad():
        embedding = fast.embed_label(label)
        kept = embedding.clone()
        first = fast(sample, 300, label, label_embedding=embedding, condition=condition).sample
        second = fast(sample, 300, label, label_embedding=embedding, condition=condition).sample
    assert torch.equal(first, second)
    assert torch.equal(embedding, kept)
    assert all(one is None or torch.equal(one, other) for one, other in zip(inputs, before, strict=True))
    assert weights.keys() == fast.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in fast.state_dict().items())


@both
def test_bfloat16_stays_close(plain, model) -> None:
    kind, fast = model
    sample, label, condition = given(kind, 64, 64)
    case = plain.Case(kind, fast, 1, sample, label, condition)
    with torch.inference_mode():
        expected, got = case.plain()(), case.ours(torch.bfloat16)()
    assert 1e-5 < ((got - expected).square().mean() / expected.square().mean()).sqrt() < 3e-2


@pytest.mark.parametrize("model", ["hybrid"], indirect=True)
def test_strips_change_nothing(model, monkeypatch) -> None:
    kind, fast = model
    sample, label, condition = given(kind, 200, 72)
    with torch.no_grad():
        whole = fast(sample, 300, label, condition=condition).sample
        monkeypatch.setattr(hybrid, "_STRIP_BYTES", 1)
        cut = fast(sample, 300, label, condition=condition).sample
    torch.testing.assert_close(cut, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("height", "rows"), [(8, 8), (8, 2), (9, 4), (30, 4)])
def test_in_strips_against_the_whole(height, rows) -> None:
    x = torch.randn(1, 2, height, 5)
    asked: list[tuple[int, int]] = []

    def twice_smoothed(low: int, high: int) -> torch.Tensor:
        asked.append((low, high))
        out = x[:, :, low:high]
        for _ in range(2):
            padded = torch.nn.functional.pad(out, (0, 0, 1, 1))
            out = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
        return out

    whole = twice_smoothed(0, height)
    asked.clear()
    torch.testing.assert_close(in_strips(twice_smoothed, height, 2, rows), whole)
    assert len(asked) == -(-height // rows)


def test_explicit_attention_in_slices(monkeypatch) -> None:
    """As bfloat16 takes it on CPUs, here in float32 against the fused kernel."""
    query, key, value = torch.randn(3, 2, 3, 150, 16)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(blocks._explicit_attention(query, key, value), expected, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(blocks, "_SCORES", 1)
    torch.testing.assert_close(blocks._explicit_attention(query, key, value), expected, atol=1e-5, rtol=1e-5)


def test_attention_in_bfloat16_is_explicit_only_without_gradients(monkeypatch) -> None:
    attention, taken = Attention(32, 2).bfloat16(), []
    real = blocks._explicit_attention
    monkeypatch.setattr(blocks, "_explicit_attention", lambda *given: taken.append(1) or real(*given))
    tokens = torch.randn(1, 20, 32, dtype=torch.bfloat16)
    with torch.no_grad():
        fast = attention(tokens)
    assert taken
    torch.testing.assert_close(attention(tokens).detach(), fast, atol=2e-2, rtol=2e-2)
    assert len(taken) == 1


@pytest.mark.parametrize("model", ["rsdit", "hybrid"], indirect=True)
def test_without_onednn(model, monkeypatch) -> None:
    """Builds of torch without the fused convolutions give the same."""
    kind, fast = model
    sample, label, condition = given(kind, 48, 32)
    with torch.no_grad():
        expected = fast(sample, 300, label, condition=condition).sample
        monkeypatch.setattr(blocks, "_POINTWISE", None)
        got = fast(sample, 300, label, condition=condition).sample
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_blocks_do_not_keep_the_shared_memory(tiny_rsdit) -> None:
    """All blocks write their modulation to the same place; the tokens must be theirs alone."""
    model = tiny_rsdit()
    tokens, condition = torch.randn(1, 8, 8, 32), torch.randn(1, 8, 8, 32)
    with torch.no_grad():
        first = run_blocks(model.blocks, tokens, condition)
        kept = first.clone()
        run_blocks(model.blocks, tokens + 1, condition + 1)
    assert torch.equal(first, kept)
