"""Floor 1: semantic change synthesis, p(I_{t+1} | I_t, S_t, S_{t+1}), by a diffusion transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from changen_cli.synthesis.hybrid import HybridRSDiT as HybridRSDiT
    from changen_cli.synthesis.pipeline import ChangenPipeline as ChangenPipeline
    from changen_cli.synthesis.published import load_published as load_published
    from changen_cli.synthesis.transformer import RSDiT as RSDiT

_HOMES = {
    "RSDiT": "transformer",
    "load_published": "published",
    "HybridRSDiT": "hybrid",
    "ChangenPipeline": "pipeline",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import the named class on first use: torch and diffusers take seconds to load."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
