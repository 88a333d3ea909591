"""How much time and disk a run may take; it stops at the end of a shard."""

from __future__ import annotations

import time

from changen_cli.core.recipe_sections import RunSection


class Budget:
    """What is left of a run's budgets, asked at the end of every shard.

    Args:
        section: The budgets.
        started: When the run began, by :func:`time.perf_counter`.
    """

    def __init__(self, section: RunSection, started: float) -> None:
        self._section, self._started = section, started
        self._last, self._bytes, self._shards = time.perf_counter(), 0, 0

    def spent(self, size: int) -> str:
        """Say which budget does not suffice for one more shard like the last one; empty while all do.

        Args:
            size: Bytes of the dataset's samples.
        """
        now, section = time.perf_counter(), self._section
        last_s, self._last = now - self._last, now
        last_bytes, self._bytes = size - self._bytes if self._shards else 0, size
        self._shards += 1
        if section.time_budget is not None and now - self._started + last_s > section.time_budget:
            return f"--time-budget {section.time_budget:.0f} s is used up"
        if section.disk_budget is not None and size + last_bytes > section.disk_budget:
            return f"--disk-budget {section.disk_budget / 1e9:g} GB is used up"
        return ""
