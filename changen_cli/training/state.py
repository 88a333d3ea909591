"""Checkpoints: one file, written by rename, read back only into the run that wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.core.files import atomic_path

# These may differ between a run and its continuation: where work stops, and how it is done.
_FREE = {"max_images", "save_every", "loader_threads", "validate_every"}


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write the resumable state by rename."""
    with atomic_path(path) as partial:
        torch.save(dict(state), partial)


@contextmanager
def load_checkpoint(path: Path, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Read a checkpoint for use in a ``with`` block; what does not fit there is reported as a damaged file.

    Args:
        path: The file.
        settings: The settings of the run that wants to continue.

    Yields:
        The state, on the CPU.

    Raises:
        UsageError: Naming the settings that differ.
        ModelError: When the file is truncated, foreign, or does not fit the networks.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        different = [
            f"{key} {_shown(state['settings'].get(key))} → {_shown(settings.get(key))}"
            for key in sorted({*settings, *state["settings"]} - _FREE)
            if _shown(state["settings"].get(key)) != _shown(settings.get(key))
        ]
        if different:
            raise UsageError(
                f"{path} was trained with other settings: {', '.join(different)}",
                "Give the same options, or choose another --output",
            )
        yield state
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, EOFError, UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} cannot be continued: {reason}", "Train it again in another --output") from error


def _shown(value: Any) -> str:
    # JSON knows no tuples: what was saved as one may come back as a list.
    return str(list(value) if isinstance(value, tuple) else value)
