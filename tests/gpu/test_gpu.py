"""On a CUDA device: the same answers as on a CPU, in bfloat16, compiled, in batches, and with too little memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from changen_cli.core.recipe import build_recipe
from changen_cli.core.types import ClassSchema
from changen_cli.synthesis import ChangenPipeline
from changen_cli.synthesis.schedulers import make_scheduler
from changen_cli.synthesis.synthesiser import DateJob, Synthesiser, SynthesisSettings
from changen_cli.workflows.generate import generate
from changen_cli.workflows.setup import SAMPLE, choose_compute

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(autouse=True)
def full_precision() -> Any:
    """float32 means float32: TensorFloat-32 would hide what these comparisons look for."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def hybrid(tiny_hybrid) -> tuple[Any, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """A tiny model with global attention too, and its inputs."""
    draw = torch.Generator().manual_seed(1)
    label = torch.rand(2, 2, 64, 96, generator=draw).round()
    sample, condition = torch.randn(2, 3, 64, 96, generator=draw), torch.randn(2, 4, 64, 96, generator=draw)
    return tiny_hybrid(depth=4).to(memory_format=torch.channels_last), (sample, label, condition)


def answer(model: Any, inputs: tuple[torch.Tensor, ...], device: str, dtype: torch.dtype) -> torch.Tensor:
    """One step on a device, brought back in float32."""
    sample, label, condition = (one.to(device, dtype) for one in inputs)
    with torch.inference_mode():
        return model(sample, 300, label, condition=condition).sample.float().cpu()


def relative_rms(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((got - expected).square().mean() / expected.square().mean()).sqrt())


def test_the_device_is_found() -> None:
    compute = choose_compute()
    assert compute.device == "cuda"
    assert compute.dtype == "bfloat16"


def test_float32_equals_the_cpu(hybrid) -> None:
    model, inputs = hybrid
    expected = answer(model, inputs, "cpu", torch.float32)
    got = answer(model.to("cuda"), inputs, "cuda", torch.float32)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_bfloat16_stays_close(hybrid) -> None:
    model, inputs = hybrid
    expected = answer(model, inputs, "cpu", torch.float32)
    half = torch.nn.Module.to(model, device="cuda", dtype=torch.bfloat16)
    assert 1e-5 < relative_rms(answer(half, inputs, "cuda", torch.bfloat16), expected) < 3e-2


def test_compiled_stays_close(hybrid) -> None:
    model, inputs = hybrid
    expected = answer(model.to("cuda"), inputs, "cuda", torch.float32)
    torch.testing.assert_close(
        answer(torch.compile(model), inputs, "cuda", torch.float32), expected, atol=1e-4, rtol=1e-4
    )


def job(name: int, changes: int) -> DateJob:
    """A tile with ``changes`` small changes far from each other."""
    draw = np.random.default_rng(name)
    masks = np.zeros((2, 128, 128 * changes), np.uint8)
    for index in range(changes):
        masks[1, 60:68, 128 * index + 60 : 128 * index + 68] = 1
    image = draw.integers(0, 255, (*masks.shape[1:], 3), dtype=np.uint8)
    return DateJob(image, masks, np.zeros(masks.shape, np.int32), [], f"s{name}", 7, (f"s{name}", 0, 1))


@pytest.fixture
def synthesiser(tiny_hybrid) -> Callable[[], Synthesiser]:
    def make() -> Synthesiser:
        model = torch.nn.Module.to(tiny_hybrid(window_size=8), device="cuda", dtype=torch.bfloat16)
        pipeline = ChangenPipeline(model, make_scheduler("dpm++", model.config))
        return Synthesiser(pipeline, SynthesisSettings(start="noise", inference_steps=4), ClassSchema())

    return make


def test_a_date_alone_equals_one_among_others(synthesiser) -> None:
    jobs = [job(number, changes) for number, changes in enumerate((3, 1, 2))]
    draw = synthesiser()
    pooled = draw.next_dates(jobs)
    for alone, together in zip(jobs, pooled, strict=True):
        assert (draw.next_dates([alone])[0] == together).all()
    assert all((a == b).all() for a, b in zip(pooled, draw.next_dates(jobs[::-1])[::-1], strict=True))


def test_out_of_memory_halves_the_batch(synthesiser) -> None:
    """The device's own error, from asking for more than any device has."""
    draw, plenty = synthesiser(), synthesiser()
    full = draw._forward_batch((64, 64))
    assert full >= 4
    ran: list[int] = []

    def check(owner: Any, given: tuple[torch.Tensor, ...]) -> None:
        if len(given[0]) > full // 4:
            torch.empty(2**46, dtype=torch.uint8, device="cuda")
        ran.append(len(given[0]))

    assert draw.pipeline is not None
    draw.pipeline.transformer.register_forward_pre_hook(check)
    jobs = [job(0, 3), job(1, 2)]
    tight, roomy = draw.next_dates(jobs), plenty.next_dates(jobs)
    assert set(ran) == {full // 4}
    for one, other in zip(tight, roomy, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 8, "another batch size only rounds differently"


def run(output: Path, **settings: Any) -> Path:
    """Two scenes of the bundled sample with the bundled model, at their own 1024²."""
    content = {
        "source": {"input": str(SAMPLE), "res": 1024},
        "output": {"path": str(output)},
        "run": {"device": "cuda", **settings},
        "limit": 2,
    }
    generate(build_recipe(content))
    return output


def load(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / "train" / name))


def test_generate_on_the_bundled_sample(tmp_path: Path) -> None:
    """Whole runs: same bytes for other batch sizes; changed pixels change, ground far from them does not move by itself."""
    one = run(tmp_path / "one", batch_size=1)
    several = run(tmp_path / "several", batch_size=2)
    manifest = json.loads((one / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["device"].startswith("cuda")
    files = [path.relative_to(one) for path in sorted((one / "train").rglob("*")) if path.is_file()]
    assert len(files) > 10
    assert [name for name in files if (one / name).read_bytes() != (several / name).read_bytes()] == []
    for line in (one / "train" / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        first, last = (load(one, row[f"t{date}_image_file_name"]) for date in (1, 2))
        assert first.shape == last.shape == (1024, 1024, 3)
        change = load(one, row["change_mask_file_name"]) > 0
        assert 0 < change.mean() < 0.5
        moved = np.abs(first.astype(int) - last).mean(axis=-1)
        assert moved[change].mean() > 2 * moved[~change].mean()
