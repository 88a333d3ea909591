from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.workflows.recipes import check_recipe


def test_a_recipe_that_can_be_carried_out(xbd_tree, pairs_tree, photos, make_recipe) -> None:
    for folder, classes in ((xbd_tree, "background, building"), (pairs_tree, "road"), (photos, "none, object")):
        checked = check_recipe(make_recipe(folder))
        assert any(classes in note for note in checked.notes)
        assert checked.output == folder.with_name(f"{folder.name}-changen")
        assert not checked.output.exists()
    assert "would be skipped" not in " ".join(checked.notes)


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        (
            {"source": {"classes": ("background", "building")}},
            "images/s0.png: the mask holds 2; --classes names ids 0 to 1",
        ),
        ({"source": {"classes": ("background", "road")}}, "no building class"),
        ({"source": {"layout": "xbd"}}, "is not laid out as xBD"),
        ({"source": {"res": 256}}, "none of the first images can be used"),
        ({"source": {"proposals": "sam"}}, "has masks; proposals are for images without"),
        ({"events": {"kinds": ("transition",), "transitions": "published-s9"}}, "none of them is between classes"),
        ({"events": {"surfaces": ("lawn",)}}, "the masks have no class lawn"),
        ({"synthesis": {"model": "nonesuch"}}, "nonesuch"),
        ({"synthesis": {"vae": "/none/such"}}, "/none/such"),
    ],
)
def test_what_does_not_fit_is_told(sections: dict[str, Any], says: str, pairs_tree, make_recipe) -> None:
    with pytest.raises(UsageError) as caught:
        check_recipe(make_recipe(pairs_tree, **sections))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_broken_image_is_no_obstacle_and_named(pairs_tree, make_recipe) -> None:
    (pairs_tree / "images" / "s1.png").write_bytes(b"no image")
    tolerant = make_recipe(pairs_tree, source={"max_skipped": 0.5})
    assert any("would be skipped: images/s1.png" in note for note in check_recipe(tolerant).notes)
    with pytest.raises(UsageError, match=r"1 of the first 3 images cannot be used \(images/s1\.png"):
        check_recipe(make_recipe(pairs_tree))


def test_nothing_is_fetched(photos: Path, make_recipe, monkeypatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("went to the network"))
    recipe = make_recipe(photos, synthesis={"model": "org/model"}, source={"proposals": "sam", "sam_model": "org/sam"})
    notes = check_recipe(recipe).notes
    assert notes[-2:] == ("org/model: on the Hub, not looked for", "org/sam: on the Hub, not looked for")
    assert len(check_recipe(make_recipe(photos, synthesis={"model": "/none", "strength": 0})).notes) == 2
