"""Checks of layouts with JSON in them: whatever it holds, they end with findings, never with a traceback."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from changen_cli.exports.formats import FORMATS
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent

JUNK = (None, 1, -1.5, "x", [], {}, [[1]], {"a": 1}, True)


def places(value, found):
    """Every (container, key) of a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        found.append((value, key))
        places(inner, found)
    return found


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    known = {}

    def get(layout: str):
        if layout not in known:
            known[layout] = tmp_path_factory.mktemp("spoilt") / layout
            export(made("georeferenced"), known[layout], layout=layout, shares=(0.5, 0.5), progress=Silent())
            shutil.rmtree(known[layout] / "train")
        return known[layout]

    return get


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        ("xbd", "*_pre_*.json"), ("xbd", "*_post_*.json"), ("spacenet7", "labels_match/*.geojson"),
        ("spacenet7", "labels_match_pix/*.geojson"), ("coco", "annotations.json"), ("stac", "*_t1.json"),
        ("stac", "*_t1_labels.json"), ("stac", "collection.json"), ("stac", "*_t1_labels.geojson"),
    ],
)  # fmt: skip
def test_anything_may_stand_anywhere(layout, pattern, exported, tmp_path) -> None:
    folder = shutil.copytree(exported(layout), tmp_path / "copy")
    path = sorted(folder.rglob(pattern))[0]
    text, rng = path.read_text(), np.random.default_rng(len(pattern))
    found = 0
    for _ in range(60):
        content = json.loads(text)
        spots = places(content, [])
        # Most of them lie deep among coordinates; half of the draws go to the upper part.
        container, key = spots[int(rng.integers(len(spots) if rng.random() < 0.5 else min(len(spots), 60)))]
        container[key] = JUNK[int(rng.integers(len(JUNK)))]
        path.write_text(json.dumps(content))
        findings = list(FORMATS[layout].check(folder))
        assert all(finding.message and finding.file for finding in findings)
        found += bool(findings)
    assert found > 5 or pattern.endswith("_t1_labels.geojson")
    for junk in JUNK:
        path.write_text(json.dumps(junk))
        assert list(FORMATS[layout].check(folder)), junk
