"""Births and deaths of objects by yearly rates, for series whose dates lie known times apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from changen_cli.events.growth import grow
from changen_cli.events.objects import create, ground_below, removable
from changen_cli.events.step import Step

RatedKind = Literal["create", "remove", "grow"]


@dataclass(frozen=True)
class Demography:
    """How fast objects come and go: a birth-death process, linear in the objects present.

    Attributes:
        rates: Events per object present and year: births by ``create`` and ``grow``, deaths by ``remove``; at least 0.
        years: Length of every step in years.
    """

    rates: Mapping[RatedKind, float]
    years: tuple[float, ...]


def live(step: Step, demography: Demography) -> float:
    """Let objects die and be born as their rates say.

    Of n objects each dies within a step of y years with probability 1 - exp(-rate y). Births are Poisson with mean
    rate n y, and spend as much ground as so many of the objects present do.

    Args:
        step: The step, in which nothing has happened yet.
        demography: The rates, and the length of the step.

    Returns:
        The area that was to change, in pixels.
    """
    objects, years = step.state.objects, demography.years[step.state.time_index]
    asked_px = 0.0
    if "remove" in demography.rates and step.objects_can_change():
        rows = removable(step)
        dies = step.rng.random(len(rows)) < 1 - math.exp(-demography.rates["remove"] * years)
        for row in rows[dies]:
            asked_px += step.clear_object("remove", int(row), ground_below(step, int(row)))
    born: tuple[tuple[RatedKind, Callable[[Step], None]], ...] = (("create", create), ("grow", grow))
    typical_px = float(np.mean(objects.areas_px)) if len(objects) else 0.0
    for kind, process in born:
        if kind in demography.rates:
            births_px = typical_px * float(step.rng.poisson(demography.rates[kind] * len(objects) * years))
            if kind == "grow":  # time passes for the building sites, too
                births_px += sum(float(site.laid.footprint.sum()) for site in step.state.sites)
            asked_px += births_px
            step.target_px = step.used_px + births_px
            process(step)
    return asked_px
