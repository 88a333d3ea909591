"""Changen: image time series with exact change labels from single-date overhead images."""

__version__ = "0.1.0"
