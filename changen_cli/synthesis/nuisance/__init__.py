"""Variation without change; numpy, scipy and Pillow only."""

from changen_cli.synthesis.nuisance.acquire import acquire, without_data
from changen_cli.synthesis.nuisance.acquisition import Acquisition, draw_acquisition
from changen_cli.synthesis.nuisance.geometry import lean_offsets, spoilt_labels

__all__ = ["Acquisition", "acquire", "draw_acquisition", "lean_offsets", "spoilt_labels", "without_data"]
