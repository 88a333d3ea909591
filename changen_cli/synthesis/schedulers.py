"""The samplers on offer, each set up for the noise schedule a model was trained under."""

from __future__ import annotations

from typing import Any, Literal

from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin

SchedulerName = Literal["dpm++", "ddim", "iddpm"]


def make_scheduler(name: SchedulerName, model_config: Any) -> SchedulerMixin:
    """Build a scheduler for a model.

    Args:
        name: ``"dpm++"`` (DPM-Solver++ 2M, Lu et al. 2022), ``"ddim"`` (Song et al. 2021, eta 0), or ``"iddpm"``:
            ancestral sampling with the learned variance where the model predicts one (Nichol & Dhariwal 2021),
            with the smaller fixed variance where it does not.
        model_config: The denoiser's configuration; ``beta_schedule``, ``prediction_type`` and ``learn_sigma`` count.

    Returns:
        A diffusers scheduler over 1000 training timesteps, spaced so that sampling starts at the last one.
    """
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
        return DDPMScheduler(**common, clip_sample=False, variance_type=variance)
    return DPMSolverMultistepScheduler(
        **common, algorithm_type="dpmsolver++", solver_order=2, lower_order_final=True, final_sigmas_type="zero"
    )
