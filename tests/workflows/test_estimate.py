from __future__ import annotations

import pytest

from changen_cli.core.errors import IncompleteError, OutputError
from changen_cli.workflows.estimate import estimate
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent

from .conftest import tree


def test_figures_are_sane_and_nothing_is_written(pairs_tree, tmp_path, make_recipe) -> None:
    before = tree(tmp_path)
    recipe = make_recipe(pairs_tree, events={"steps": 2}, variants=2)
    plan = estimate(recipe, Silent())
    assert tree(tmp_path) == before
    assert not recipe.output_path.exists()
    assert plan.output == str(recipe.output_path)
    assert (plan.images, plan.samples, plan.dates, plan.device) == (3, 6, 3, "cpu")
    assert 0 < plan.seconds < 3600
    assert plan.windows_per_date >= 1
    assert plan.seconds_per_megapixel > 0
    assert set(plan.as_dict()) >= {"samples", "seconds", "bytes"}
    # The disk it takes is what it says, give or take: the preview is not part of it.
    generate(recipe)
    images = sum(path.stat().st_size for path in (recipe.output_path / "train").rglob("*") if path.is_file())
    assert 0.6 < plan.bytes / images < 1.6


def test_tiles_limit_and_start_count(xbd_tree, make_recipe) -> None:
    assert estimate(make_recipe(xbd_tree, source={"res": 64}), Silent()).samples == 8
    assert estimate(make_recipe(xbd_tree, limit=1, variants=3), Silent()).samples == 3
    pasted = estimate(make_recipe(xbd_tree, synthesis={"strength": 0}), Silent())
    assert pasted.seconds_per_megapixel == 0
    assert pasted.seconds > 0
    unchanged = estimate(make_recipe(xbd_tree, events={"negatives": 1.0}), Silent())
    assert unchanged.windows_per_date == 0


def test_it_refuses_what_a_run_refuses(xbd_tree, tmp_path, make_recipe) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError):
        estimate(make_recipe(xbd_tree, output={"path": str(tmp_path / "full")}), Silent())
    for path in (xbd_tree / "images").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(IncompleteError) as error:
        estimate(make_recipe(xbd_tree), Silent())
    assert error.value.exit_code == 3
