"""Masked change diffusion with tiny real models: what is held, what may change, what a batch may not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from changen_cli.synthesis import ChangenPipeline
from changen_cli.synthesis.schedulers import make_scheduler

SCHEDULERS = ("dpm++", "ddim", "iddpm")


def scene(height: int = 32, width: int = 40, seed: int = 0, batch: int = 1) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    change = torch.zeros(batch, 1, height, width)
    change[..., 8:20, 10:26] = 1
    return {
        "image": torch.rand(batch, 3, height, width, generator=draw) * 2 - 1,
        "semantic_mask": torch.rand(batch, 2, height, width, generator=draw).round(),
        "change_mask": change,
    }


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def pipe(tiny_hybrid) -> Callable[..., ChangenPipeline]:
    def make(scheduler: str = "dpm++", **settings: Any) -> ChangenPipeline:
        model = tiny_hybrid(**settings)
        pipeline = ChangenPipeline(model, make_scheduler(scheduler, model.config))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


@pytest.fixture
def calls() -> Callable[[ChangenPipeline], list[torch.Tensor]]:
    """Count the model's calls by a hook; returns the timesteps it was called with."""

    def count(pipeline: ChangenPipeline) -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []
        pipeline.transformer.register_forward_hook(lambda module, args, output: seen.append(args[1]))
        return seen

    return count


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("kind", ["noise", "exemplar"])
def test_unchanged_pixels_are_held(pipe, scheduler: str, kind: str) -> None:
    given = scene()
    start = {"start": -given["image"], "strength": 0.6} if kind == "exemplar" else {}
    out = pipe(scheduler)(**given, **start, num_inference_steps=5, generator=generators(1)).images
    area = given["change_mask"].bool().expand_as(out)
    assert torch.equal(out[~area], given["image"][~area])
    assert (out[area] - given["image"][area]).abs().mean() > 0.05
    assert out.dtype == torch.float32
    assert out.abs().max() <= 1
    assert out.isfinite().all()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_unheld_pixels_drift(pipe, scheduler: str) -> None:
    given = scene()
    area = given["change_mask"].bool().expand(-1, 3, -1, -1)
    drift = []
    for ratio in (0.0, 0.5, 1.0):
        out = pipe(scheduler)(
            **given, start=given["image"], strength=0.8, num_inference_steps=5, guidance_ratio=ratio,
            generator=generators(1),
        ).images  # fmt: skip
        drift.append(float((out - given["image"])[~area].abs().mean()))
    assert drift[2] == 0
    assert drift[0] > 0.01
    assert drift[1] > 0.01
    assert drift[1] != drift[0]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_batch_equals_its_samples(pipe, scheduler: str, strength: float) -> None:
    """One generator per sample: what is drawn for one does not depend on the others."""
    pipeline = pipe(scheduler)
    given = scene(batch=2)
    start = given["image"].flip(-1)
    settings = {"strength": strength, "num_inference_steps": 4}
    both = pipeline(**given, start=start, generator=generators(3, 4), **settings).images
    for index, seed in enumerate((3, 4)):
        one = {name: value[index : index + 1] for name, value in given.items()}
        single = pipeline(**one, start=start[index : index + 1], generator=generators(seed), **settings).images
        torch.testing.assert_close(both[index : index + 1], single, atol=1e-4, rtol=1e-3)
    other = pipeline(**given, start=start, generator=generators(3, 5), **settings).images
    torch.testing.assert_close(both[0], other[0], atol=1e-4, rtol=1e-3)
    assert (both[1] - other[1]).abs().max() > 1e-2


def test_the_same_seeds_give_the_same_bytes(pipe) -> None:
    pipeline = pipe("iddpm")
    runs = [pipeline(**scene(), num_inference_steps=4, generator=generators(3)).images for _ in range(2)]
    torch.manual_seed(99)
    runs.append(pipeline(**scene(), num_inference_steps=4, generator=generators(3)).images)
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    ("steps", "strength", "expected"), [(10, 0.3, 3), (20, 0.3, 6), (5, 1.0, 5), (4, 0.01, 1), (7, 0.5, 4), (1, 0.5, 1)]
)
def test_strength_is_the_share_of_the_steps(pipe, calls, scheduler, steps, strength, expected) -> None:
    pipeline = pipe(scheduler)
    seen = calls(pipeline)
    given = scene()
    pipeline(**given, start=given["image"], strength=strength, num_inference_steps=steps, generator=generators(0))
    assert len(seen) == (max(2, expected) if scheduler == "iddpm" else expected)
    if scheduler == "iddpm":  # its respaced chain, from the strength down to 0
        last = round(strength * 999)
        assert (int(seen[0]), int(seen[-1])) == (last, 0)
        gaps = [int(a) - int(b) for a, b in pairwise(seen)]
        assert max(gaps) - min(gaps) <= 1
    elif scheduler == "dpm++":  # from the strength down, ever closer
        last = strength * 999
        assert [int(t) for t in seen] == [round(last * (k / expected) ** 2) for k in range(expected, 0, -1)]
    else:  # the last ones of the schedule, down to the least noise
        pipeline.scheduler.set_timesteps(steps)
        assert [int(t) for t in seen] == [int(t) for t in pipeline.scheduler.timesteps[-expected:]]


def test_without_a_start_every_step_is_run(pipe, calls) -> None:
    pipeline = pipe()
    seen = calls(pipeline)
    out = pipeline(**scene(), strength=0.2, num_inference_steps=6, generator=generators(0)).images
    assert len(seen) == 6
    assert int(seen[0]) == 999
    again = pipeline(**scene(), start=scene(seed=5)["image"], num_inference_steps=6, generator=generators(0)).images
    assert torch.equal(out, again), "strength 1 is pure noise, whatever the start"


def test_a_weak_start_shines_through(pipe) -> None:
    given = scene()
    start = torch.full_like(given["image"], 0.8)
    settings = {"num_inference_steps": 50, "generator": generators(0)}
    out = pipe()(**given, start=start, strength=0.02, **settings).images
    area = given["change_mask"].bool().expand_as(out)
    assert (out[area] - 0.8).abs().mean() < 0.15


@pytest.mark.parametrize(
    "wrong",
    [
        {"strength": 0.0},
        {"strength": 1.01},
        {"strength": -1},
        {"guidance_ratio": -0.1},
        {"guidance_ratio": 1.5},
        {"strength": float("nan")},
    ],
)
def test_shares_out_of_range_are_refused(pipe, wrong) -> None:
    given = scene()
    with pytest.raises(ValueError, match="strength"):
        pipe()(**given, start=given["image"], **wrong)


@pytest.mark.parametrize("shape", [(30, 40), (32, 36)])
def test_sizes_that_do_not_fit_are_refused(pipe, shape) -> None:
    with pytest.raises(ValueError, match="divisible by 8"):
        pipe()(**scene(*shape))


@pytest.fixture
def latent(tiny_rsdit) -> Callable[..., ChangenPipeline]:
    """RS-DiT on the latents of a tiny AutoencoderKL with random weights, 8 pixels per latent."""

    def make(scheduler: str = "ddim", **settings: Any) -> ChangenPipeline:
        from diffusers import AutoencoderKL

        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=32,
            scaling_factor=0.18215,
        ).eval()  # fmt: skip
        model = tiny_rsdit(**settings)
        pipeline = ChangenPipeline(model, make_scheduler(scheduler, model.config), vae)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("learn_sigma", [True, False])
def test_on_latents(latent, scheduler: str, learn_sigma: bool) -> None:
    pipeline = latent(scheduler, learn_sigma=learn_sigma)
    given = scene(32, 48)
    given["semantic_mask"] = given["semantic_mask"][:, :1]
    seen: list[tuple[int, ...]] = []
    pipeline.scheduler.step = _watch(pipeline.scheduler.step, seen)
    out = pipeline(**given, start=given["image"], strength=0.5, num_inference_steps=4, generator=generators(0)).images
    assert out.shape == given["image"].shape
    assert out.isfinite().all()
    # Only iDDPM's scheduler is given the learned variance.
    channels = 8 if learn_sigma and scheduler == "iddpm" else 4
    assert seen == [(1, channels, 4, 6)] * 2


def _watch(step, seen):
    def watched(output, *args, **kwargs):
        seen.append(tuple(output.shape))
        return step(output, *args, **kwargs)

    return watched


def test_latents_outside_the_change_are_held(latent) -> None:
    """The decoder mixes neighbours, so the latents are compared: those the change mask does not touch."""
    pipeline = latent()
    given = scene(32, 48)
    given["semantic_mask"] = given["semantic_mask"][:, :1]
    decoded: list[torch.Tensor] = []
    decode = pipeline.decode
    pipeline.decode = lambda sample: decoded.append(sample) or decode(sample)
    pipeline(**given, num_inference_steps=3, generator=generators(0))
    known = pipeline.encode(given["image"])
    touched = torch.zeros(4, 6, dtype=torch.bool)
    touched[1:3, 1:4] = True  # rows 8..20, columns 10..26
    assert torch.equal(decoded[0][..., ~touched], known[..., ~touched])
    assert (decoded[0][..., touched] != known[..., touched]).any(dim=1).all()


def test_latents_want_multiples_of_sixteen(latent) -> None:
    with pytest.raises(ValueError, match="divisible by 16"):
        latent()(**scene(32, 40))


def test_rsdit_on_pixels(tiny_rsdit) -> None:
    model = tiny_rsdit(
        in_channels=3, condition_channels=4, label_channels=2, patch_size=4, learn_sigma=False, codec="pixel"
    )
    pipeline = ChangenPipeline(model, make_scheduler("dpm++", model.config))
    pipeline.set_progress_bar_config(disable=True)
    given = scene(20, 28)
    given["change_mask"][:] = 0
    given["change_mask"][..., 4:12, 4:12] = 1
    out = pipeline(**given, num_inference_steps=3, generator=generators(0)).images
    area = given["change_mask"].bool().expand_as(out)
    assert torch.equal(out[~area], given["image"][~area])
    assert not torch.equal(out[area], given["image"][area])


def test_the_model_sees_no_pixel_of_the_change_area(pipe) -> None:
    """The condition is the known ground and the mask; what lay in the change area must not leak through it."""
    pipeline = pipe()
    conditions: list[torch.Tensor] = []
    pipeline.transformer.register_forward_hook(
        lambda module, args, kwargs, output: conditions.append(kwargs["condition"]), with_kwargs=True
    )
    given = scene()
    first = pipeline(**given, num_inference_steps=3, generator=generators(0)).images
    area = given["change_mask"].bool()
    assert torch.equal(conditions[0][:, 3:], given["change_mask"])
    assert not conditions[0][:, :3][area.expand(-1, 3, -1, -1)].any()
    given["image"] = torch.where(area, -given["image"], given["image"])
    second = pipeline(**given, num_inference_steps=3, generator=generators(0)).images
    assert torch.equal(first, second), "from noise, the old pixels of the change area decide nothing"


def test_ddim_against_its_equation(pipe) -> None:
    """Song et al. 2021, eq. 12 with sigma = 0, for a v-predicting model, in float64."""
    pipeline = pipe("ddim")
    given = scene()
    given["change_mask"][:] = 1
    given["image"] *= 0.1
    steps = 4
    betas = [min(1 - _bar((i + 1) / 1000) / _bar(i / 1000), 0.999) for i in range(1000)]
    alphas = np.cumprod(1 - np.asarray(betas, dtype=np.float64))
    noise = torch.randn(1, 3, 32, 40, generator=generators(7)[0])
    x = noise.double()
    timesteps = [999, 749, 499, 249]
    label = given["semantic_mask"]
    condition = torch.cat([torch.zeros(1, 3, 32, 40), given["change_mask"]], dim=1)
    for t, previous in zip(timesteps, [*timesteps[1:], None], strict=True):
        with torch.no_grad():
            v = pipeline.transformer(x.float(), t, label, condition=condition).sample.double()
        a, b = alphas[t] ** 0.5, (1 - alphas[t]) ** 0.5
        clean, epsilon = a * x - b * v, a * v + b * x
        after = 1.0 if previous is None else alphas[previous]
        x = after**0.5 * clean + (1 - after) ** 0.5 * epsilon
    assert x.abs().max() > 1, "the clipping below must have something to do"
    out = pipeline(**given, num_inference_steps=steps, generator=generators(7)).images
    np.testing.assert_allclose(out.numpy(), x.clamp(-1, 1).numpy(), atol=2e-4)


def _bar(t: float) -> float:
    """The cosine schedule of Nichol & Dhariwal 2021."""
    return float(np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2)
