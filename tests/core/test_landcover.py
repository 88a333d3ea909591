from __future__ import annotations

import pytest

from changen_cli.core.landcover import OPENEARTHMAP, class_number, openearthmap_name


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        *((name, name) for name in OPENEARTHMAP),
        ("Land", "bareland"),
        ("Agriculture land", "agriculture"),
        ("Forest land", "tree"),
        ("Urban_land", "developed"),
        ("impervious surface", "developed"),
        ("Low vegetation", "rangeland"),
        ("High vegetation", "tree"),
        ("Swimming-pool", "water"),
        ("small buildings", "building"),
        ("non-building", None),
        ("background", None),
        ("clutter", None),
        ("car", None),
    ],
)
def test_names_found_in_data_sets(name: str, meaning: str | None) -> None:
    assert openearthmap_name(name) == meaning


def test_a_model_is_asked_by_name_before_by_meaning() -> None:
    assert class_number("Vegetation", ("building", "vegetation")) == 1
    assert class_number("vegetation", OPENEARTHMAP) == 1
    assert class_number("House", ("building",)) == 0
    assert class_number("water", ("building",)) is None
