"""xBD labels: their JSON, and the well-known text in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changen_cli.core.errors import SceneError
from changen_cli.sources.wkt import parse_polygons
from changen_cli.sources.xbd import read_label

from .mutations import examples, refusing, spoilt_text

SHAPE = (48, 64)
TOKENS = st.sampled_from(
    ["POLYGON", "MULTIPOLYGON", "Z", "EMPTY", "SRID=4326;", "(", ")", "((", "))", ",", " ", "0 0", "4 0", "4 4", "-1e9 nan",
     "1e400 2", "0x1 1_0", "1 2 3 4 5", "\u0663 \u0664", "\0"]
)  # fmt: skip


def building(number: int, scale: float = 1, shift: tuple[float, float] = (0, 0)) -> dict:
    left, top = (12 * (number % 4) + 2) * scale + shift[0], (12 * (number // 4) + 2) * scale + shift[1]
    side = 8 * scale
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    return {
        "properties": {"feature_type": "building", "uid": f"id-{number}", "subtype": "no-damage"},
        "wkt": f"POLYGON (({', '.join(f'{x} {y}' for x, y in corners)}))",
    }


LABEL = {
    "features": {
        "xy": [building(number) for number in range(6)],
        "lng_lat": [building(number, 1e-5, (15.0, 47.0)) for number in range(6)],
    },
    "metadata": {"width": 64, "height": 48, "gsd": 2.0, "pan_resolution": 0.5},
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("labels") / "a_pre_disaster.json"


@examples
@given(data=spoilt_text(LABEL))
def test_a_label_gives_a_mask_or_a_reason(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with refusing(SceneError):
        found = read_label(path, SHAPE)
        assert found.mask.shape == found.instances.shape == SHAPE
        assert found.mask.dtype == np.uint8 and set(np.unique(found.mask)) <= {0, 1, 255}
        assert len(set(found.uids)) == len(found.uids) == found.instances.max()
        "".join(found.uids).encode("utf-8")
        assert found.transform is None or np.isfinite(found.transform).all()
        assert found.gsd_m is None or 0 < found.gsd_m < 1e6


@examples
@given(data=spoilt_text(LABEL))
def test_the_label_of_the_second_date_never_spoils_the_first(path: Path, data: bytes) -> None:
    content = {"features": {"xy": [building(number) | {"properties": {"uid": f"id-{number}"}} for number in range(6)]}}
    import json

    path.write_text(json.dumps(content))
    path.with_name("a_post_disaster.json").write_bytes(data)
    with refusing():
        assert read_label(path, SHAPE).mask.shape == SHAPE
    path.with_name("a_post_disaster.json").unlink()


@examples
@given(text=st.one_of(st.lists(TOKENS, max_size=30).map(" ".join), st.text(max_size=60)))
def test_well_known_text(text: str) -> None:
    with refusing(ValueError):
        for polygon in parse_polygons(text):
            for ring in polygon:
                assert len(ring) >= 4 and np.isfinite(ring).all() and np.array_equal(ring[0], ring[-1])
