"""Tests of changen_cli.sources; their files are made by code."""
