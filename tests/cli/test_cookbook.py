"""docs/cookbook.md is true: what it tells people to type works, on small folders of each kind."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from tests.conftest import picture, write_pairs, write_xbd
from tests.sources.files import UTM, UTM_TRANSFORM, save_tif

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_RECIPE = ["--set", "source.res=128", "--set", "run.device=cpu"]
_QUICK = ["--limit", "1", "--res", "128", "-q"]
SMALL = {
    "recipe": _RECIPE,
    "run": [*_RECIPE, "--set", "limit=1", "--set", "synthesis.strength=0", "-q"],
    "generate": [*_QUICK, "--strength", "0", "--nuisance", "none"],
    "simulate": _QUICK,
    "preview": ["--res", "128", "--count", "2"],
}
"""What is added to a command to keep it short; of an option given twice the last one counts."""


def blocks(page: str, *languages: str) -> list[str]:
    """The blocks of code on a page in some languages, in order."""
    return [
        text for language, text in BLOCK.findall((DOCS / page).read_text(encoding="utf-8")) if language in languages
    ]


def type_in(line: str) -> Result:
    """Run a command as a page has it, made short."""
    _, name, *rest = shlex.split(line, comments=True)
    return CliRunner().invoke(app, [name, *rest, *SMALL.get(name, [])])


def faults(home: Path, *, make: bool) -> list[tuple[str, int, str]]:
    """Write every recipe of the cookbook and type every command; what failed, and how.

    Args:
        home: Where to.
        make: Whether recipes are run; else they are checked only, and commands about what they would make are left out.
    """
    found = []
    for text in blocks("cookbook.md", "yaml", "sh"):
        if text.startswith("# "):
            (home / text[2:].split("\n")[0]).write_text(text, encoding="utf-8")
            continue
        for line in text.splitlines():
            if not make and line.startswith("changen export") and not (home / line.split()[2]).exists():
                continue
            done = type_in(
                line if make else line.replace("changen run", "changen recipe check").split(" --output two")[0]
            )
            if done.exit_code != 0:
                found.append((line, done.exit_code, done.output[-400:]))
    return found


def landcover(images: Path, masks: Path, classes: int, suffix: str = ".png") -> None:
    """Two scenes whose mask holds ids from 1 on in stripes, with houses of id 1 or, of nine classes, 8."""
    for scene in range(2):
        image, numbers = picture(scene)
        stripes = np.repeat(np.arange(classes), -(-128 // classes))[:128].astype(np.uint8)
        mask = np.broadcast_to(stripes, (128, 128)).copy()
        mask[numbers > 0] = {9: 8, 8: 2}.get(classes, 1)
        for folder, array in ((images, image), (masks, mask)):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / f"{scene}{suffix}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every input folder the cookbook names."""
    write_xbd(tmp_path / "xview2" / "train")
    write_pairs(tmp_path / "tiles")
    landcover(tmp_path / "LoveDA/Train/Urban/images_png", tmp_path / "LoveDA/Train/Urban/masks_png", 8)
    landcover(tmp_path / "openearthmap/aachen/images", tmp_path / "openearthmap/aachen/labels", 9, ".tif")
    landcover(tmp_path / "landcover/images", tmp_path / "landcover/masks", 3)
    for scene in range(2):
        image = np.moveaxis(picture(scene)[0].astype(np.uint16) * 12, 2, 0)
        save_tif(tmp_path / "geotiffs" / f"{scene}.tif", image, crs=UTM, transform=UTM_TRANSFORM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    return tmp_path


def test_every_recipe_of_the_cookbook_can_be_carried_out_and_every_command_works(home: Path) -> None:
    assert faults(home, make=False) == []
    assert (home / "levir" / "train" / "label").is_dir() and (home / "stac" / "catalog.json").is_file()


@pytest.mark.slow
def test_every_recipe_of_the_cookbook_makes_a_dataset(home: Path) -> None:
    assert faults(home, make=True) == []


def test_every_recipe_of_the_cookbook_is_checked_or_run_there() -> None:
    page = (DOCS / "cookbook.md").read_text(encoding="utf-8")
    names = [text[2:].split("\n")[0] for text in blocks("cookbook.md", "yaml")]
    commands = "\n".join(blocks("cookbook.md", "sh"))
    assert len(names) >= 7 and all(name.endswith(".yaml") for name in names), page[:80]
    assert [
        name
        for name in names
        if f"changen recipe check {name}" not in commands and f"changen run {name}" not in commands
    ] == []
