"""Exports as a whole: what is written where, what is refused, and what an interruption leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_pairs
from PIL import Image

from changen_cli.core.errors import ChangenError, OutputError, UsageError
from changen_cli.core.recipe import build_recipe
from changen_cli.exports.formats import FORMATS, parse_mapping
from changen_cli.exports.master import open_master
from changen_cli.workflows.export import export
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.simulate import simulate_dataset

from .conftest import tree

PAIRS = sorted(name for name, form in FORMATS.items() if form.item == "pair")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three places, two dates."""
    root = tmp_path_factory.mktemp("export")
    generate(build_recipe(values(write_pairs(root / "source"), root / "dataset")))
    return root / "dataset"


def values(source: Path, out: Path) -> dict[str, object]:
    return {
        "source": {"input": str(source), "classes": ("background", "building", "road")},
        "events": {"change_area": "2-6%"},
        "synthesis": {"strength": 0},
        "output": {"path": str(out)},
        "variants": 2,
    }


def run(dataset: Path, target: Path, layout: str = "levir-cd", **options: object) -> object:
    if FORMATS[layout].own_classes:
        options = {"mapping": {"background": "ground"}} | options
    return export(dataset, target, layout=layout, progress=Silent(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", PAIRS)
def test_the_same_export_has_the_same_bytes(layout, dataset, tmp_path) -> None:
    before = tree(dataset)
    for name in ("one", "two"):
        run(dataset, tmp_path / name, layout)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert tree(dataset) == before
    assert list(FORMATS[layout].check(tmp_path / "one")) == []


@pytest.mark.parametrize("layout", PAIRS)
def test_masks_without_images_are_refused(layout, tmp_path) -> None:
    simulate_dataset(build_recipe(values(write_pairs(tmp_path / "source"), tmp_path / "masks")))
    with pytest.raises(UsageError, match="holds masks only"):
        run(tmp_path / "masks", tmp_path / "out", layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "source"]


def test_a_place_is_in_one_split(dataset, tmp_path) -> None:
    report = run(dataset, tmp_path / "out", shares=(0.34, 0.33, 0.33))
    places: dict[str, set[str]] = {}
    groups = {row["image_name"]: row["group"] for row in open_master(dataset).rows()}
    for path in (tmp_path / "out").glob("*/A/*.png"):
        places.setdefault(path.parts[-3], set()).add(groups[path.stem])
    assert set(places) == {"train", "val", "test"}
    assert sum(len(names) for names in places.values()) == len(set().union(*places.values())) == 3
    assert report.places == {split: len(names) for split, names in places.items()}
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["layout"] == "levir-cd" and record["split"] == [0.34, 0.33, 0.33] and record["items"] == report.items


def rename_splits(dataset: Path, *names: str) -> None:
    """Give the samples of a dataset these splits, one after the other."""
    table = dataset / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    table.write_text("".join(json.dumps(row | {"split": names[i % len(names)]}) + "\n" for i, row in enumerate(rows)))


def test_splits_of_the_hub_go_by_the_names_of_the_layouts(dataset, tmp_path) -> None:
    """A dataset that was pushed with --split and downloaded again has a split ``validation``."""
    copy = shutil.copytree(dataset, tmp_path / "copy")
    rename_splits(copy, "train", "validation")
    for layout in ("whu-cd", "levir-cd"):
        assert set(run(copy, tmp_path / layout, layout).items) == {"train", "val"}  # type: ignore[attr-defined]
        assert list(FORMATS[layout].check(tmp_path / layout)) == []
    assert (tmp_path / "whu-cd" / "list" / "val.txt").read_text()
    rename_splits(copy, "holdout")
    with pytest.raises(UsageError, match=r"'holdout'.*--split"):
        run(copy, tmp_path / "out")


def test_the_record_says_what_it_is_and_whose(dataset, tmp_path, monkeypatch) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    whose = {"name": "Here", "license": ["cc-by-4.0"], "attribution": "(c) us"}
    (copy / "manifest.json").write_text(json.dumps(manifest | {"source": manifest["source"] | whose}))
    card = (copy / "README.md").read_text()
    (copy / "README.md").write_text(card.replace("license: other", "license: cc-by-4.0", 1))
    monkeypatch.chdir(copy)
    run(Path(), tmp_path / "out", "stac")
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (record["license"], record["source"], record["dataset"]["name"]) == ("cc-by-4.0", whose, "copy")
    collection = json.loads((tmp_path / "out" / "train" / "collection.json").read_text())
    assert (collection["license"], collection["id"]) == ("CC-BY-4.0", "copy-train")


def test_images_are_links_and_stay_the_datasets_own(dataset, tmp_path) -> None:
    run(dataset, tmp_path / "out")
    for path in (tmp_path / "out" / "train" / "A").iterdir():
        assert path.samefile(dataset / "train" / "images" / f"{path.stem}_t0.png")
    sample = next(open_master(dataset).samples())
    with pytest.raises(FileExistsError):
        sample.images[1].put(tmp_path / "out" / "train" / "A" / f"{sample.id}.png")


def test_samples_that_differ_in_case_only_stay_apart(dataset, tmp_path) -> None:
    """On Windows and macOS one would overwrite the other; zip files and Parquet carry them there."""
    copy = shutil.copytree(dataset, tmp_path / "copy")
    table = copy / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[1]["image_name"] = rows[0]["image_name"].upper()
    rows[2]["image_name"] = "with space#1"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(copy, tmp_path / "out", "whu-cd")
    names = [path.name for path in (tmp_path / "out" / "A").iterdir()]
    assert len({name.casefold() for name in names}) == len(rows)
    listed = np.loadtxt(tmp_path / "out" / "list" / "train.txt", dtype=str)
    assert sorted(listed) == sorted(names)
    assert list(FORMATS["whu-cd"].check(tmp_path / "out")) == []


def test_only_an_export_is_replaced(dataset, tmp_path) -> None:
    target = tmp_path / "out"
    run(dataset, target)
    with pytest.raises(OutputError, match=r"exists.*--overwrite"):
        run(dataset, target)
    run(dataset, target, "whu-cd", overwrite=True)
    assert (target / "list").is_dir() and not (target / "train").exists()
    (target / "export.json").unlink()
    with pytest.raises(OutputError, match="no export of changen"):
        run(dataset, target, overwrite=True)
    with pytest.raises(OutputError, match="holds the dataset itself"):
        run(dataset, dataset, overwrite=True)
    with pytest.raises(OutputError, match="lies in the dataset"):
        run(dataset, dataset / "levir")
    (target / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/out cannot be made: .*--output"):
        run(dataset, target / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_broken_image_leaves_the_old_export(dataset, tmp_path) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    run(copy, tmp_path / "out")
    before = tree(tmp_path / "out")
    mask = sorted((copy / "train" / "masks").iterdir())[-1]
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(OutputError, match=mask.name):
        run(copy, tmp_path / "out", overwrite=True)
    assert tree(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "out"]


def _spoil(out: Path, file: str, text: str | None) -> None:
    path = next(out.glob(file))
    path.unlink() if text is None else path.write_text(text)


@pytest.mark.parametrize(
    ("file", "text", "layout"),
    [
        ("manifest.json", "[]", "levir-cd"),
        ("manifest.json", '{"status": "complete", "source": []}', "levir-cd"),
        ("classes.json", "[]", "levir-cd"),
        ("train/metadata.jsonl", '{"a\n', "levir-cd"),
        ("train/metadata.jsonl", '{"image_name": "x"}\n', "levir-cd"),
        ("train/images/*_t1.png", None, "levir-cd"),
        ("train/images/*_t1.png", None, "torchange"),
        ("train/masks/*_t1.png", None, "open-cd"),
        ("train/masks/*_t1.png", "no PNG", "coco"),
        ("train/instances/*_t1.png", "no PNG", "xbd"),
        ("train/objects/*.json", "{", "coco"),
        ("train/objects/*.json", None, "coco"),
        ("train/events/*.jsonl", "{x", "webdataset"),
        ("train/events/*.jsonl", None, "webdataset"),
    ],
)
def test_a_spoilt_dataset_is_one_line_and_leaves_nothing(file, text, layout, dataset, tmp_path) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    _spoil(copy, file, text)
    with pytest.raises(ChangenError, match=r"changen (validate|generate)") as raised:
        run(copy, tmp_path / "out", layout)
    told = str(raised.value)
    assert "\n" not in told and any(name in told for name in (*file.split("/")[-1:], copy.name, "_v00"))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("spoil", [lambda data: data[:-400], lambda data: data[:4] + b"\xff" * 40 + data[44:]])
def test_a_spoilt_shard_is_one_line(spoil, dataset, tmp_path) -> None:
    given = values(dataset.parent / "source", tmp_path / "parquet")
    generate(build_recipe(given | {"output": {"path": str(tmp_path / "parquet"), "format": "parquet"}}))
    shard = next((tmp_path / "parquet" / "data").iterdir())
    shard.write_bytes(spoil(shard.read_bytes()))
    with pytest.raises(OutputError, match=r"cannot be read.*changen validate"):
        run(tmp_path / "parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


SLOW = """
import sys, time
from pathlib import Path
from changen_cli.exports.binary import LevirCD
from changen_cli.workflows.export import export
from changen_cli.workflows.progress import Silent
write = LevirCD.write
def slow(self, sample, split):
    done = write(self, sample, split)
    print("one", flush=True)
    time.sleep(60)
    return done
LevirCD.write = slow
export(Path(sys.argv[1]), Path(sys.argv[2]), layout="levir-cd", overwrite=True, progress=Silent())
"""


@pytest.mark.parametrize("deaf", [False, True], ids=["", "in the background"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interruption_leaves_nothing_under_the_name(number, deaf, dataset, tmp_path) -> None:
    """Shells have jobs in the background ignore SIGINT; SIGTERM must end those as well."""
    if deaf and number == signal.SIGINT:
        pytest.skip("is ignored")
    run(dataset, tmp_path / "out", "whu-cd")
    before = tree(tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(dataset), str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if deaf else None,
    )
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(number)
    assert process.wait(20) != 0
    assert tree(tmp_path / "out") == before
    if number != signal.SIGKILL:
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
    run(dataset, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "train" / "A").is_dir()


def test_bad_requests(dataset, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"--as cityscapes is not known.*levir-cd"):
        export(dataset, tmp_path / "out", layout="cityscapes", progress=Silent())
    with pytest.raises(UsageError, match=r"--map: this layout keeps the classes.*second"):
        run(dataset, tmp_path / "out", mapping={"road": "ground"})
    with pytest.raises(UsageError, match=r"--pairs: this layout takes whole series.*levir-cd"):
        run(dataset, tmp_path / "out", "coco", pairs="all")
    with pytest.raises(UsageError, match="4 splits"):
        run(dataset, tmp_path / "out", shares=(0.25, 0.25, 0.25, 0.25))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["road", "road=", "=ground", "a=b,a=c", "a=b=c", "", "a=b,"])
def test_bad_mappings(text) -> None:
    with pytest.raises(UsageError, match="--map"):
        parse_mapping(text)


def test_good_mappings() -> None:
    assert parse_mapping("road=ground, bare land = low vegetation") == {"road": "ground", "bare land": "low vegetation"}


def test_pixels_of_a_label_are_the_change_of_its_dates(dataset, tmp_path) -> None:
    run(dataset, tmp_path / "out")
    for path in (tmp_path / "out" / "train" / "label").iterdir():
        stored = np.asarray(Image.open(dataset / "train" / "changes" / f"{path.stem}_t0_t1.png"))
        assert np.array_equal(np.asarray(Image.open(path)), stored)
