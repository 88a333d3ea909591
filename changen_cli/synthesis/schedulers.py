"""The samplers on offer, each set up for the noise schedule a model was trained under."""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
)

from changen_cli.core.errors import ModelError

SchedulerName = Literal["dpm++", "ddim", "iddpm"]


def make_scheduler(name: SchedulerName, model_config: Any) -> SchedulerMixin:
    """Build a scheduler for a model.

    Args:
        name: ``"dpm++"`` (DPM-Solver++ 2M, Lu et al. 2022), ``"ddim"`` (Song et al. 2021, eta 0), or ``"iddpm"``:
            ancestral sampling with the learned variance where the model predicts one (Nichol & Dhariwal 2021),
            with the smaller fixed variance where it does not.
        model_config: The denoiser's configuration; ``beta_schedule``, ``prediction_type`` and ``learn_sigma`` count.

    Returns:
        A diffusers scheduler over 1000 training timesteps, spaced so that sampling starts at the last one. For a model
        trained by flow matching the default stands for Euler steps (Lipman et al. 2023).

    Raises:
        ModelError: When another sampler is asked for a model trained by flow matching.

    What ``"iddpm"`` needs beyond diffusers' ``DDPMScheduler``, so that every step is the paper's (found by comparing
    the two in float64):

    - The subset of timesteps. The paper's holds both ends: 0 and 999. Only "linspace" does; "trailing" ends above 0,
      and the scheduler, which leaves out the noise at timestep 0 and not at the last step, would then put noise of
      up to the whole last beta on the finished image.
    - Tables in float64. One minus a ratio of two float32 numbers near 1 is off by 1e-3 where betas are small.
    """
    if model_config["beta_schedule"] == "flow":
        if name != "dpm++":
            raise ModelError(
                f"the model was trained by flow matching, --scheduler {name} is not for it", "Leave it out"
            )
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    common: dict[str, Any] = {
        "num_train_timesteps": 1000,
        "beta_schedule": model_config["beta_schedule"],
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "prediction_type": model_config["prediction_type"],
        "timestep_spacing": "trailing",
    }
    if name == "ddim":
        return DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
    if name == "iddpm":
        # Only this scheduler takes an output that carries the variance too; the pipeline cuts it off for the others.
        variance = "learned_range" if model_config.get("learn_sigma") else "fixed_small"
        scheduler = DDPMScheduler(
            **(common | {"timestep_spacing": "linspace"}), clip_sample=False, variance_type=variance
        )
        scheduler.betas = scheduler.betas.double()
        if common["beta_schedule"] == "linear":
            scheduler.betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        scheduler.alphas = 1 - scheduler.betas
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
        return scheduler
    return DPMSolverMultistepScheduler(
        **common, algorithm_type="dpmsolver++", solver_order=2, lower_order_final=True, final_sigmas_type="zero"
    )


def respaced(last: int, count: int) -> list[int]:
    """Timesteps of iDDPM's respaced chain: ``count`` of them, evenly from ``last`` down to 0, both included.

    The paper respaces the whole range (``last`` 999); an exemplar start enters the chain at a lower level, and the same
    rule then spaces what is left. There are always two, because the chain has to end at 0.
    """
    count = max(2, count)
    return sorted({round(index * last / (count - 1)) for index in range(count)}, reverse=True)
