"""Ancestral sampling with learned variance against the equations of Nichol & Dhariwal (2021), in float64."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from changen_cli.synthesis import ChangenPipeline
from changen_cli.synthesis.schedulers import make_scheduler, respaced

CONFIG = {"beta_schedule": "linear", "prediction_type": "epsilon", "learn_sigma": True}
SHAPE = (1, 4, 3, 5)


def subset(count: int, size: int = 1000) -> list[int]:
    """The paper's respacing as its authors state it: a fractional stride, added up and rounded; ascending."""
    stride, position, kept = (size - 1) / (count - 1), 0.0, []
    for _ in range(count):
        kept.append(round(position))
        position += stride
    return kept


@dataclass
class Chain:
    """The respaced chain, in numpy: betas from ratios of the cumulative products that are kept."""

    steps: list[int]

    def __post_init__(self) -> None:
        kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000, dtype=np.float64))[self.steps]
        before = np.append(1.0, kept[:-1])
        self.abar, self.abar_before, self.beta = kept, before, 1 - kept / before
        posterior = self.beta * (1 - before) / (1 - kept)
        # The first posterior variance is 0 and has no logarithm: the paper's code takes the second in its place.
        self.log_posterior = np.log(np.append(posterior[1], posterior[1:]))

    def step(self, i: int, x: np.ndarray, eps: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
        """x_{i-1} from x_i: eqs. 9 to 11 for the mean, eq. 15 for the variance; no noise on the last one."""
        abar, before, beta = self.abar[i], self.abar_before[i], self.beta[i]
        x0 = (x - np.sqrt(1 - abar) * eps) / np.sqrt(abar)
        mean = np.sqrt(before) * beta / (1 - abar) * x0 + np.sqrt(1 - beta) * (1 - before) / (1 - abar) * x
        share = (v + 1) / 2
        log_variance = share * np.log(beta) + (1 - share) * self.log_posterior[i]
        return mean + (np.exp(log_variance / 2) * z if i else 0)


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()


@pytest.mark.parametrize("count", [1000, 250, 50, 20])
def test_the_respaced_timesteps_are_the_papers(count: int) -> None:
    assert respaced(999, count) == subset(count)[::-1]


@pytest.mark.parametrize(("last", "count"), [(99, 2), (99, 1), (500, 500), (1, 1), (10, 10), (1, 2), (299, 6)])
def test_a_chain_that_starts_lower_ends_at_zero_too(last: int, count: int) -> None:
    steps = respaced(last, count)
    assert steps[0] == last and steps[-1] == 0
    assert len(steps) == max(2, count)
    assert all(a > b for a, b in pairwise(steps))


@pytest.mark.parametrize("count", [1000, 250, 50, 20])
def test_every_step_equals_the_equations(count: int) -> None:
    chain = Chain(subset(count))
    scheduler = make_scheduler("iddpm", CONFIG)
    scheduler.set_timesteps(timesteps=respaced(999, count))
    rng = np.random.default_rng(count)
    x = noise(0)
    worst = 0.0
    for i, t in reversed(list(enumerate(chain.steps))):
        # Not a denoiser's answer: the equations hold for any, and this one keeps every term in play.
        eps, v = np.tanh(x) + 0.3 * rng.normal(size=SHAPE), rng.uniform(-1.2, 1.2, SHAPE)
        expected = chain.step(i, x, eps, v, noise(t))
        got = scheduler.step(
            torch.from_numpy(np.concatenate([eps, v], axis=1)),
            scheduler.timesteps[count - 1 - i],
            torch.from_numpy(x),
            generator=torch.Generator().manual_seed(t),
        ).prev_sample
        assert got.dtype == torch.float64
        worst = max(worst, float(np.abs(got.numpy() - expected).max()))
        x = expected
    assert np.isfinite(x).all() and np.abs(x).max() < 1e3
    assert worst < 1e-12


def test_each_step_of_a_chain_entered_lower() -> None:
    """Entered at a lower level, as an exemplar start does, the chain is that of the timesteps that are left."""
    steps = respaced(400, 9)
    chain, scheduler = Chain(steps[::-1]), make_scheduler("iddpm", CONFIG)
    scheduler.set_timesteps(timesteps=steps)
    x, v = noise(1), np.ones(SHAPE)
    for index, t in enumerate(steps):
        i = len(steps) - 1 - index
        got = scheduler.step(
            torch.from_numpy(np.concatenate([0.1 * x, v], axis=1)),
            t,
            torch.from_numpy(x),
            generator=torch.Generator().manual_seed(t),
        ).prev_sample.numpy()
        np.testing.assert_allclose(got, chain.step(i, x, 0.1 * x, v, noise(t)), atol=1e-12)
        x = got


@pytest.mark.parametrize("count", [2, 6])
def test_the_pipeline_runs_this_chain(tiny_rsdit: Any, count: int) -> None:
    """The whole pipeline with a real network, everything redrawn, against the equations around the same network."""
    model = tiny_rsdit(in_channels=3, codec="pixel")
    pipeline = ChangenPipeline(model, make_scheduler("iddpm", model.config))
    pipeline.set_progress_bar_config(disable=True)
    label = torch.zeros(1, 1, 16, 16)
    out = pipeline(
        image=torch.zeros(1, 3, 16, 16),
        semantic_mask=label,
        change_mask=torch.ones(1, 1, 16, 16),
        num_inference_steps=count,
        generator=[torch.Generator().manual_seed(5)],
    ).images
    chain, drawn = Chain(subset(count)), torch.Generator().manual_seed(5)
    x = torch.randn(1, 3, 16, 16, generator=drawn)
    for i, t in reversed(list(enumerate(chain.steps))):
        with torch.no_grad():
            eps, v = (half.double().numpy() for half in model(x, t, label).sample.chunk(2, dim=1))
        z = torch.randn(1, 3, 16, 16, generator=drawn).double().numpy() if i else np.zeros(1)
        x = torch.from_numpy(chain.step(i, x.double().numpy(), eps, v, z)).float()
    assert x.std() > 0.1
    torch.testing.assert_close(out, x.clamp(-1, 1), atol=2e-4, rtol=1e-4)


def test_nothing_is_added_to_the_finished_image() -> None:
    """Even where the network asks for the largest variance, the last step is the mean alone."""
    scheduler = make_scheduler("iddpm", CONFIG)
    for count in (1000, 20, 2):
        scheduler.set_timesteps(timesteps=respaced(999, count))
        output = torch.cat([torch.zeros(SHAPE), torch.ones(SHAPE)], dim=1)
        last = [
            scheduler.step(output, scheduler.timesteps[-1], torch.ones(SHAPE), generator=torch.Generator().manual_seed(s))
            for s in (0, 1)
        ]  # fmt: skip
        assert torch.equal(last[0].prev_sample, last[1].prev_sample)


def test_without_a_learned_variance_the_smaller_fixed_one_is_taken() -> None:
    scheduler = make_scheduler("iddpm", CONFIG | {"learn_sigma": False, "beta_schedule": "squaredcos_cap_v2"})
    assert scheduler.config.variance_type == "fixed_small"
    assert scheduler.alphas_cumprod.dtype == torch.float64
    assert scheduler.alphas_cumprod.diff().max() < 0
