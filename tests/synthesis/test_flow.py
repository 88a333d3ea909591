"""Models trained by flow matching: the pipeline walks the straight path they were trained on."""

from __future__ import annotations

import pytest
import torch

from changen_cli.core.errors import ModelError
from changen_cli.synthesis.pipeline import ChangenPipeline
from changen_cli.synthesis.schedulers import make_scheduler

FLOW = {"beta_schedule": "flow", "prediction_type": "sample"}


@pytest.fixture
def pipeline(tiny_hybrid):
    model = tiny_hybrid(**FLOW)
    made = ChangenPipeline(model, make_scheduler("dpm++", model.config))
    made.set_progress_bar_config(disable=True)
    return made


def inputs(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    change = torch.zeros(1, 1, 32, 32)
    change[..., 8:24, 8:24] = 1
    return image, torch.zeros(1, 2, 32, 32), change


class Knows:
    """Stands for a perfect network: answers the true image, and keeps what it was asked."""

    def __init__(self, model, answer) -> None:
        self.model, self.answer, self.asked = model, answer, []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def __call__(self, sample, timestep, label, **given):
        self.asked.append((float(timestep), sample.clone()))
        return type("Output", (), {"sample": self.answer})


@pytest.mark.parametrize(("start", "strength", "steps"), [(True, 0.2, 20), (True, 0.6, 10), (False, 1.0, 5)])
def test_every_state_lies_on_the_line_between_noise_and_the_answer(pipeline, start, strength, steps) -> None:
    image, label, change = inputs()
    answer = inputs(1)[0] * change + image * (1 - change)
    knows = Knows(pipeline.transformer, answer)
    pipeline.register_modules(transformer=pipeline.transformer)
    pipeline.transformer, kept = knows, pipeline.transformer
    try:
        out = pipeline(
            image, label, change, start=answer if start else None, strength=strength, num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(7)],
        ).images  # fmt: skip
    finally:
        pipeline.transformer = kept
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    assert len(knows.asked) == max(1, round(steps * strength))
    assert knows.asked[0][0] == pytest.approx(1000 * strength)
    for timestep, state in knows.asked:
        sigma = timestep / 1000
        torch.testing.assert_close(state, (1 - sigma) * answer + sigma * noise, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out, answer.clamp(-1, 1), atol=1e-5, rtol=1e-5)


def test_unchanged_pixels_are_held(pipeline) -> None:
    image, label, change = inputs()
    out = pipeline(image, label, change, start=image, strength=0.3, num_inference_steps=10,
                   generator=[torch.Generator().manual_seed(7)]).images  # fmt: skip
    assert torch.equal(out[change.expand_as(out) == 0], image[change.expand_as(out) == 0])
    assert not torch.equal(out, image)


def test_guidance_moves_every_channel_and_one_leaves_it_out(pipeline) -> None:
    image, label, change = inputs()
    label[:, 0] = change[:, 0]

    def draw(**given):
        return pipeline(image, label, change, start=image, strength=0.5, num_inference_steps=8,
                        generator=[torch.Generator().manual_seed(7)], **given).images  # fmt: skip

    assert torch.equal(draw(), draw(guidance_scale=1.0))
    moved = (draw(guidance_scale=3.0) - draw()).abs().amax(dim=(0, 2, 3))
    assert (moved > 1e-4).all()
    label.zero_()
    torch.testing.assert_close(draw(guidance_scale=3.0), draw(), atol=1e-5, rtol=1e-5)


def test_other_samplers_are_refused(pipeline) -> None:
    with pytest.raises(ModelError, match="flow matching"):
        make_scheduler("ddim", pipeline.transformer.config)
