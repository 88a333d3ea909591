"""Windows in batches: one shape per forward pass, halved when the device runs out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from changen_cli.synthesis import ChangenPipeline
from changen_cli.synthesis import synthesiser as module
from changen_cli.synthesis.schedulers import make_scheduler
from changen_cli.synthesis.synthesiser import DateJob, Synthesiser, SynthesisSettings

from .conftest import SCHEMA


@pytest.fixture
def batches(monkeypatch, tiny_hybrid) -> Callable[[int | None], tuple[Synthesiser, list[int]]]:
    """Return ``make(room)``: a synthesiser of up to four 64² windows at once, and the batch sizes it ran.

    Its forward pass fails like a full device above ``room`` windows.
    """
    monkeypatch.setitem(module._FORWARD_PIXELS, "cpu", 4 * 64 * 64)

    def make(room: int | None) -> tuple[Synthesiser, list[int]]:
        model = tiny_hybrid(window_size=16)
        ran: list[int] = []

        def check(owner: Any, given: tuple[torch.Tensor, ...]) -> None:
            if room is not None and len(given[0]) > room:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            ran.append(len(given[0]))

        model.register_forward_pre_hook(check)
        pipeline = ChangenPipeline(model, make_scheduler("dpm++", model.config))
        settings = SynthesisSettings(start="noise", inference_steps=2)
        return Synthesiser(pipeline, settings, SCHEMA), ran

    return make


def job(name: int, blocks: int) -> DateJob:
    """A tile with changes far from each other: as many windows of 64²."""
    rng = np.random.default_rng(name)
    masks = np.zeros((2, 128, 128 * blocks), np.uint8)
    for index in range(blocks):
        masks[1, 60:68, 128 * index + 60 : 128 * index + 68] = 1
    image = rng.integers(0, 255, (*masks.shape[1:], 3), dtype=np.uint8)
    return DateJob(image, masks, np.zeros(masks.shape, np.int32), [], f"s{name}", 7, (f"s{name}", 0, 1))


def test_windows_run_in_batches_of_one_shape(batches) -> None:
    draw, ran = batches(None)
    draw.next_dates([job(0, 3), job(1, 2)])
    assert ran == [4, 4, 4, 4], "five windows, filled up, two steps"


def test_out_of_memory_halves_the_batch_for_good(batches, caplog) -> None:
    draw, ran = batches(1)
    jobs = [job(0, 3), job(1, 2)]
    told: list[tuple[int, int]] = []
    with caplog.at_level(logging.WARNING):
        tight = draw.next_dates(jobs, lambda done, total: told.append((done, total)))
    assert ran == [1] * 10
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: 2 instead of 4 windows of 64 x 64 at once",
        "out of memory: 1 instead of 2 windows of 64 x 64 at once",
    ]
    assert told[-1] == (5, 5)
    draw.next_dates(jobs)
    assert ran == [1] * 20 and len(caplog.records) == 2, "not tried again"
    roomy = batches(None)[0].next_dates(jobs)
    for one, other in zip(tight, roomy, strict=True):
        assert (one != 0).any()
        assert np.abs(one.astype(int) - other).max() <= 1


def test_only_the_shape_that_failed_is_halved(batches) -> None:
    draw, _ = batches(2)
    draw.next_dates([job(0, 3)])
    assert draw._forward_batch((64, 64)) == 2
    assert draw._forward_batch((64, 128)) == 2
    assert draw._forward_batch((32, 32)) == 16


def test_what_is_left_does_not_depend_on_the_batch_after_a_halving(batches) -> None:
    jobs = [job(0, 3), job(1, 2)]
    draw, _ = batches(2)
    pooled = draw.next_dates(jobs)
    for alone, together in zip(jobs, pooled, strict=True):
        assert (draw.next_dates([alone])[0] == together).all()


def test_no_room_for_a_single_window(batches) -> None:
    draw, ran = batches(0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        draw.next_dates([job(0, 1)])
    assert ran == []
