"""A run on an archive makes what a run on the folder makes, byte for byte, and leaves nothing beside its output."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from changen_cli.core.errors import ChangenError, UsageError
from changen_cli.core.recipe import build_recipe
from changen_cli.workflows.generate import generate
from changen_cli.workflows.preview import preview
from changen_cli.workflows.simulate import simulate_dataset

KINDS = {"zip": ".zip", "tar": ".tar", "gztar": ".tar.gz"}


def files(folder: Path) -> dict[str, bytes]:
    """All that a dataset holds; records of shards know when a file was changed."""
    left_out = ("manifest.json", "README.md", "preview.png")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and path.name not in left_out
        and path.relative_to(folder).parts[0] not in (".lock", "run.log", "shards")
    }


def recipe_of(source: Path, output: Path | None):
    return build_recipe(
        {
            "source": {"input": str(source)},
            "synthesis": {"strength": 0},
            "output": {"path": output and str(output)},
            "run": {"device": "cpu", "threads": 1},
        }
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_gives_what_its_folder_gives(xbd_tree: Path, tmp_path: Path, kind: str) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "in ö" / "xbd"), kind, xbd_tree))
    assert archive.name == f"xbd{KINDS[kind]}"
    generate(recipe_of(xbd_tree, tmp_path / "a"))
    generate(recipe_of(archive, tmp_path / "b"))
    assert files(tmp_path / "a") == files(tmp_path / "b") != {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "in ö", "xbd"], "nothing is left beside"
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab"]
    assert manifests[0]["fingerprint"] == manifests[1]["fingerprint"]
    assert manifests[0]["source"]["name"] == manifests[1]["source"]["name"] == "xbd"
    assert manifests[1]["recipe"]["source"]["input"] == str(archive)


def test_the_output_is_named_after_the_archive(pairs_tree: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "scenes"), "gztar", pairs_tree)
    recipe = recipe_of(Path(archive), None)
    recipe = recipe.model_copy(
        update={"source": recipe.source.model_copy(update={"classes": ("background", "building", "road")})}
    )
    result = simulate_dataset(recipe)
    assert result.output == tmp_path / "scenes-changen"
    assert result.samples == 3
    shown = preview(recipe, tmp_path / "sheet.png")
    assert shown.scene_id == "s0" and shown.sheet.is_file()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_refused_archive_leaves_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("images/a.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UsageError, match=r"a\.tar cannot be unpacked: it holds 'images/a\.png', a link"):
        generate(recipe_of(tmp_path / "a.tar", tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_what_a_killed_run_left_is_removed_by_the_next(xbd_tree: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "in" / "xbd"), "zip", xbd_tree))
    left, others = tmp_path / ".out.0123abcd.input", tmp_path / ".out.more.0123abcd.input"
    for folder in (left, others):
        (folder / "xbd.partial-1").mkdir(parents=True)
    generate(recipe_of(archive, tmp_path / "out"))
    assert not left.exists()
    assert others.exists(), "it belongs to another output"


def test_an_archive_without_images_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("x")
    archive = shutil.make_archive(str(tmp_path / "nothing"), "zip", tmp_path / "empty")
    with pytest.raises(ChangenError, match=r"no images in .*nothing"):
        generate(recipe_of(Path(archive), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
