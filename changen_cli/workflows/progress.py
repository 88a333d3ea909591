"""How a workflow tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the events of a run. All calls come from the thread the workflow was called on."""

    def note(self, text: str) -> None:
        """One line worth reading: the layout detected, a skip, the library's size."""

    def stage(self, name: str) -> None:
        """The current stage: reading, simulating, denoising, writing; of pushing also from other threads."""

    def total(self, images: int) -> None:
        """How many source images the run will go through, as far as known."""

    def scene(self, images_done: int, samples_done: int) -> None:
        """Source images gone through and samples finished so far."""

    def windows(self, done: int, total: int) -> None:
        """Windows denoised for the current date."""


class Silent:
    """A :class:`Progress` that tells nobody."""

    def note(self, text: str) -> None:
        """Ignore."""

    def stage(self, name: str) -> None:
        """Ignore."""

    def total(self, images: int) -> None:
        """Ignore."""

    def scene(self, images_done: int, samples_done: int) -> None:
        """Ignore."""

    def windows(self, done: int, total: int) -> None:
        """Ignore."""
