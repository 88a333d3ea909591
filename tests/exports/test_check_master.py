"""What ``changen validate`` finds in datasets of our own: nothing in sound ones, every planted defect in others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import picture, write_pairs, write_xbd
from PIL import Image

from changen_cli.core.recipe import build_recipe
from changen_cli.exports.check_master import check_master
from changen_cli.workflows.generate import generate

KINDS = ("building", "pairs", "landcover", "georeferenced", "parquet", "masks", "damage")


@pytest.mark.parametrize("name", KINDS)
def test_a_sound_dataset_gives_no_finding(name, made) -> None:
    ticks: list[tuple[str, int, int]] = []
    assert list(check_master(made(name), lambda *tick: ticks.append(tick))) == []
    samples = [done for stage, done, _ in ticks if stage == "samples"]
    assert samples == list(range(len(samples))) and ticks[0][2] == len(samples) - 1 > 0
    assert ticks[-1][0] == "checksums" and ticks[-1][1] == ticks[-1][2]


@pytest.mark.parametrize("kind", ["swap", "grow", "alter", "proposals", "unknown ground", "exact variants"])
def test_sound_whatever_happens_in_it(kind, tmp_path) -> None:
    source, events, more = write_xbd(tmp_path / "in", 1), {"kinds": [kind], "steps": 3}, {}
    given: dict[str, Any] = {"input": str(source)}
    if kind == "proposals":
        shutil.rmtree(source / "labels")
        events, given = {"steps": 2}, given | {"layout": "images"}
    if kind == "unknown ground":
        source = write_pairs(tmp_path / "pairs", 1)
        mask = np.array(Image.open(source / "masks/s0.png"))
        mask[60:90, :40] = 255
        Image.fromarray(mask).save(source / "masks/s0.png")
        events = {"steps": 2}
        given = {"input": str(source), "classes": ("background", "building", "road")}
    if kind == "exact variants":
        events, more = {"steps": 1, "negatives": 0.5}, {"variants": 4}
    synthesis = {"strength": 0, "nuisance": "none" if kind == "exact variants" else "hard"}
    values = {"source": given, "events": events, "synthesis": synthesis, "output": {"path": str(tmp_path / "out")}}
    generate(build_recipe(values | more))
    assert list(check_master(tmp_path / "out")) == []


def sample(out: Path, index: int = 0) -> str:
    """The id of a sample."""
    return str(json.loads((out / "train/metadata.jsonl").read_text().splitlines()[index])["image_name"])


def edit_rows(out: Path, edit: Callable[[list[Any]], Any]) -> str:
    """Change the rows of the table."""
    path = out / "train/metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = edit(rows) or rows
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "train/metadata.jsonl"


def edit_events(out: Path, edit: Callable[[list[Any]], Any]) -> str:
    """Change the event log of the first sample."""
    path = out / "train/events" / f"{sample(out)}.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    events = edit(events) or events
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return f"train/events/{path.name}"


def edit_pixels(out: Path, name: str, edit: Callable[[Any], Any]) -> str:
    """Change one PNG of the first sample; ``{}`` stands for its id."""
    path = out / "train" / name.format(sample(out))
    image = Image.open(path)
    image.load()
    pixels = np.array(image)
    changed = edit(pixels)
    (changed if isinstance(changed, Image.Image) else Image.fromarray(pixels if changed is None else changed)).save(
        path
    )
    return f"train/{path.relative_to(out / 'train').as_posix()}"


def edit_json(out: Path, name: str, **values: Any) -> str:
    content = json.loads((out / name).read_text())
    (out / name).write_text(json.dumps(content | values))
    return name


def edit_tif(out: Path, name: str, **values: Any) -> str:
    """Write one GeoTIFF of the first sample anew with another profile or tag."""
    import rasterio

    path = out / "train" / name.format(sample(out))
    with rasterio.open(path) as file:
        profile, pixels, tags = file.profile, file.read(), file.tags()
    tag = {"TIFFTAG_DATETIME": values.pop("date", tags.get("TIFFTAG_DATETIME"))}
    with rasterio.open(path, "w", **(profile | {"driver": "GTiff"} | values)) as file:
        file.write(pixels)
        file.update_tags(**tag)
    return f"train/{path.relative_to(out / 'train').as_posix()}"


def edit_shard(out: Path, edit: Callable[[pa.Table], pa.Table]) -> str:
    path = next((out / "data").iterdir())
    pq.write_table(edit(pq.read_table(path)), path)
    return f"data/{path.name}"


def remove(out: Path, name: str) -> str:
    path = out / name.format(sample(out))
    path.unlink()
    return path.relative_to(out).as_posix()


def write(out: Path, name: str, data: bytes = b"x") -> str:
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name


def cut(out: Path, name: str) -> str:
    path = out / name.format(sample(out) if (out / "train").is_dir() else "")
    path.write_bytes(path.read_bytes()[:-300])
    return path.relative_to(out).as_posix()


def house(value: int) -> Callable[[Any], None]:
    """Set some pixels that are free ground at all dates."""

    def edit(pixels: Any) -> None:
        pixels[-4:, -4:] = value

    return edit


def second_split(out: Path) -> str:
    """A copy of everything as a second split."""
    shutil.copytree(out / "train", out / "val")
    path = out / "val/metadata.jsonl"
    path.write_text(path.read_text().replace('"split": "train"', '"split": "val"'))
    return "val/metadata.jsonl"


def other_scenes_image(out: Path) -> str:
    first, second = sample(out, 0), sample(out, 1)
    for kind in ("images", "masks"):
        shutil.copy(out / f"train/{kind}/{first}_t0.png", out / f"train/{kind}/{second}_t0.png")
    return f"train/images/{second}_t0.png"


def shard_of_two(out: Path) -> str:
    path = next((out / "data").iterdir())
    path.rename(path.with_name("train-00000-of-00002.parquet"))
    return "data/train-00001-of-00002.parquet"


def other_mask(table: pa.Table) -> pa.Table:
    cells = table["t2_mask"].to_pylist()
    cells[0] = table["t1_mask"].to_pylist()[0]
    return table.set_column(
        table.column_names.index("t2_mask"),
        table.schema.field("t2_mask"),
        pa.array(cells, table.schema.field("t2_mask").type),
    )


def rotate(events: list[Any]) -> None:
    events[0]["polygon"] = "POLYGON ((0 0, 9 9, 0 9, 0 0))"


DEFECTS: dict[str, tuple[str, Callable[[Path], str], str]] = {
    # name: dataset, what is done to it (returns the file to be named), what must be said
    "mask missing": ("building", lambda o: remove(o, "train/masks/{}_t1.png"), "semantic mask of date 1 is missing"),
    "image missing": ("building", lambda o: remove(o, "train/images/{}_t2.png"), "image of date 2 is missing"),
    "change mask missing": ("building", lambda o: remove(o, "train/changes/{}_t1_t2.png"), "change mask of step 1 is missing"),
    "event log missing": ("building", lambda o: remove(o, "train/events/{}.jsonl"), "event log is missing"),
    "mask of another size": ("building", lambda o: edit_pixels(o, "masks/{}_t1.png", lambda p: p[:-1]), "128 x 127 px"),
    "palette mask": ("building", lambda o: edit_pixels(o, "masks/{}_t0.png", lambda p: Image.fromarray(p).convert("P")), "mode P"),
    "16-bit mask": ("building", lambda o: edit_pixels(o, "masks/{}_t0.png", lambda p: p.astype(np.uint16)), "mode I;16"),
    "grey image": ("building", lambda o: edit_pixels(o, "images/{}_t1.png", lambda p: p[..., 0].copy()), "mode L, not 8-bit RGB"),
    "cut image": ("building", lambda o: cut(o, "train/images/{}_t0.png"), "cannot be read"),
    "class without a name": ("building", lambda o: edit_pixels(o, "masks/{}_t2.png", house(9)), "holds [9]"),
    "unknown ground that becomes known": ("building", lambda o: edit_pixels(o, "masks/{}_t2.png", house(255)), "16 px become known or unknown"),
    "change mask in 0/1": ("building", lambda o: edit_pixels(o, "changes/{}_t0_t1.png", lambda p: p // 255), "holds [1]"),
    "change mask that is not the difference": ("building", lambda o: edit_pixels(o, "changes/{}_t0_t1.png", house(255)), "16 px are not where"),
    "mask edited by hand": (
        "building",
        lambda o: edit_pixels(o, "masks/{}_t2.png", house(1)).replace("masks", "events").replace("_t2.png", ".jsonl"),
        "step 1, 16 changed px belong to no event",
    ),
    "event left out": ("building", lambda o: edit_events(o, lambda e: e[1:]), "changed px belong to no event"),
    "event count": ("building", lambda o: edit_events(o, lambda e: e[1:]), "events, the row says"),
    "event twice": ("building", lambda o: edit_events(o, lambda e: [e[0], *e]), "px belong to several events"),
    "event area": ("building", lambda o: edit_events(o, lambda e: e[0].update(area_px=1)), "area_px 1, the polygon fills"),
    "event box": ("building", lambda o: edit_events(o, lambda e: e[0].update(bbox=[0, 0, 5, 5])), "bbox [0, 0, 5, 5]"),
    "event polygon": ("building", lambda o: edit_events(o, rotate), "the polygon has an edge across pixels"),
    "event class": ("building", lambda o: edit_events(o, lambda e: e[0].update(to_class=1 - e[0]["to_class"])), "to_class"),
    "event class name": ("building", lambda o: edit_events(o, lambda e: e[0].update(from_name="tree")), "not tree"),
    "event areas before": ("building", lambda o: edit_events(o, lambda e: e[0].update(from_areas_px={})), "from_areas_px {}"),
    "event kind": ("building", lambda o: edit_events(o, lambda e: e[0].update(kind="vanish")), "'vanish' is no kind"),
    "event step": ("building", lambda o: edit_events(o, lambda e: e[0].update(step=7)), "no step 7"),
    "event key": ("building", lambda o: edit_events(o, lambda e: e[0].pop("polygon") and None), "polygon is None"),
    "event dates": ("georeferenced", lambda o: edit_events(o, lambda e: e[0].update(date_from="1999")), "dates ['1999'"),
    "event log no JSON": ("building", lambda o: write(o, f"train/events/{sample(o)}.jsonl", b"{\n"), "is no JSON"),
    "changed share": ("building", lambda o: edit_rows(o, lambda r: r[0].update(changed_fraction=[0.5, 0.5])), "changed_fraction of step 0 is 0.5"),
    "dates of a row": ("building", lambda o: edit_rows(o, lambda r: r[0].update(dates=2, changed_fraction=[0.1])), "2 dates, the manifest says 3"),
    "row without a column": ("building", lambda o: edit_rows(o, lambda r: r[0].pop("group") and None), "column group is None"),
    "row that names another file": (
        "building",
        lambda o: edit_rows(o, lambda r: r[0].update(t2_mask_file_name=r[1]["t2_mask_file_name"]))
        and f"train/masks/{sample(o)}_t1.png",
        "not what t2_mask_file_name of its row names",
    ),
    "row twice": ("building", lambda o: edit_rows(o, lambda r: [*r, r[0]]), "the id is there twice"),
    "row lost": ("building", lambda o: edit_rows(o, lambda r: r[1:]) and "manifest.json", "says 2 samples, there are 1"),
    "files of a lost row": (
        "building",
        lambda o: (name := sample(o)) and edit_rows(o, lambda r: r[1:]) and f"train/masks/{name}_t0.png",
        "no row asks for it",
    ),
    "row no JSON": ("building", lambda o: write(o, "train/metadata.jsonl", b"{\n"), "line 1 is no row"),
    "calendar of a row": ("georeferenced", lambda o: edit_rows(o, lambda r: r[0].update(calendar=["2018"])), "calendar ['2018']"),
    "extra file": ("building", lambda o: write(o, "train/images/notes.png"), "no row asks for it"),
    "extra date": ("building", lambda o: write(o, f"train/masks/{sample(o)}_t3.png"), "no row asks for it"),
    "place in two splits": ("building", second_split, "is in train and in val"),
    "split without a table": ("building", lambda o: second_split(o) and remove(o, "val/metadata.jsonl"), "missing: val/ holds files"),
    "instance mask missing": ("building", lambda o: remove(o, "train/instances/{}_t2.png"), "instance mask of date 2 is missing"),
    "instance mask of 8 bits": ("building", lambda o: edit_pixels(o, "instances/{}_t0.png", lambda p: p.astype(np.uint8)), "not one band of 16 or 32 bits"),
    "number without an id": ("building", lambda o: edit_pixels(o, "instances/{}_t2.png", house(999)), "holds [999], which have no id"),
    "objects missing": ("building", lambda o: remove(o, "train/objects/{}.json"), "table of objects is missing"),
    "objects no JSON": ("building", lambda o: write(o, f"train/objects/{sample(o)}.json", b"[]"), "no JSON object of numbers"),
    "event of another object": ("building", lambda o: edit_events(o, lambda e: e[0].update(object_id="x")), "in the table of objects"),
    "event of another number": ("building", lambda o: edit_events(o, lambda e: e[0].update(instance=e[0]["instance"] % 8 + 1)), "have another number before and after"),
    "stray objects": ("building", lambda o: write(o, "train/objects/x_v00.json", b"{}"), "no row asks for it"),
    "georeference of instances": ("georeferenced", lambda o: edit_tif(o, "instances/{}_t1.tif", crs="EPSG:3857"), "instance mask of date 1 has CRS EPSG:3857"),
    "half-written sample": ("building", lambda o: write(o, ".staging/x.json") and ".staging", "half-written"),
    "half-written file": ("building", lambda o: write(o, "train/masks/.partial-7-x.png"), "half-written"),
    "run not ended": ("building", lambda o: edit_json(o, "manifest.json", status="running"), "status running"),
    "manifest lost": ("building", lambda o: remove(o, "manifest.json"), "holds no manifest.json"),
    "manifest of another version": ("building", lambda o: edit_json(o, "manifest.json", extra=1), "cannot be read as a manifest"),
    "manifest counts": ("building", lambda o: edit_json(o, "manifest.json", counts={"samples": 9}), "says 9 samples, there are 2"),
    "manifest events": ("building", lambda o: edit_json(o, "manifest.json", statistics={"events": {"grow": 1}}), "says events {'grow': 1}"),
    "classes lost": ("building", lambda o: remove(o, "classes.json"), "nobody knows what the masks hold"),
    "classes renamed": (
        "building",
        lambda o: edit_json(o, "classes.json", classes=[{"id": 0, "name": "background"}, {"id": 1, "name": "car"}]),
        "the manifest names others",
    ),
    "bytes": ("building", lambda o: write(o, "classes.json", (o / "classes.json").read_bytes() + b" "), "its bytes are not those that were written"),
    "checksums lost": ("building", lambda o: remove(o, "checksums.sha256"), "the manifest has its hash"),
    "checksums edited": ("building", lambda o: write(o, "checksums.sha256", b"0" * 64 + b"  a\n"), "whose hash the manifest has"),
    "checksums broken": ("building", lambda o: write(o, "checksums.sha256", b"half a li"), "line 1 is no checksum"),
    "same image twice": ("building", other_scenes_image, "another scene"),
    "another CRS": ("georeferenced", lambda o: edit_tif(o, "masks/{}_t1.tif", crs="EPSG:3857"), "has CRS EPSG:3857, the row says EPSG:32640"),
    "no CRS": ("georeferenced", lambda o: edit_tif(o, "images/{}_t1.tif", crs=None), "has CRS None"),
    "another transform": ("georeferenced", lambda o: edit_tif(o, "changes/{}_t0_t1.tif", transform=(1, 0, 5, 0, -1, 9)), "has transform"),
    "another date": ("georeferenced", lambda o: edit_tif(o, "images/{}_t2.tif", date="1999:01:01 00:00:00"), "has the tag DateTime 1999"),
    "half a georeference": ("georeferenced", lambda o: edit_rows(o, lambda r: r[0].update(crs=None)), "belong together"),
    "shard missing": ("parquet", shard_of_two, "is missing; the others say it belongs to them"),
    "shard cut": ("parquet", lambda o: cut(o, next((o / "data").iterdir()).relative_to(o).as_posix()), "cannot be read"),
    "shard of other columns": ("parquet", lambda o: edit_shard(o, lambda t: t.select(t.column_names[::-1])), "columns begin events"),
    "shard of other pixels": ("parquet", lambda o: edit_shard(o, other_mask), "change mask of step 0: "),
    "shard without an event": ("parquet", lambda o: edit_shard(o, lambda t: t.set_column(t.column_names.index("events"), "events", pa.array(["[]"] * len(t)))), "0 events, the row says"),
    "masks only, mask missing": ("masks", lambda o: remove(o, "train/masks/{}_t0.png"), "semantic mask of date 0 is missing"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_planted_defect_is_found_and_its_file_named(defect, made, tmp_path) -> None:
    dataset, plant, said = DEFECTS[defect]
    out = tmp_path / "out"
    shutil.copytree(made(dataset), out)
    file = plant(out)
    findings = list(check_master(out))
    hits = [finding for finding in findings if said in finding.message]
    assert file in {finding.file for finding in hits}, [(f.file, f.message) for f in findings]
    assert all(finding.severity == ("warning" if defect == "same image twice" else "error") for finding in hits)
    assert all(finding.fix for finding in findings)
    # What is sound is not blamed: only the file, and those that rest on it.
    assert len(findings) <= 40


@pytest.mark.parametrize("odd", [None, [["x"]], 10**9])
@pytest.mark.parametrize("where", ["row", "event", "manifest", "classes"])
def test_nothing_odd_stops_the_check(where, odd, made, tmp_path) -> None:
    """Whatever a file holds, it is a finding, or of no consequence, never a failure."""
    out = tmp_path / "out"
    shutil.copytree(made("pairs"), out)
    edit_rows(out, lambda rows: rows[:1])
    name = {
        "row": "train/metadata.jsonl", "event": f"train/events/{sample(out)}.jsonl",
        "manifest": "manifest.json", "classes": "classes.json",
    }[where]  # fmt: skip
    text = (out / name).read_text()
    first, *others = [text] if name.endswith(".json") else text.splitlines()
    for key in json.loads(first):
        (out / name).write_text("\n".join([json.dumps(json.loads(first) | {key: odd}), *others]) + "\n")
        findings = list(check_master(out))
        assert any(finding.file == name for finding in findings), key


def test_a_folder_made_before_there_were_checksums_is_only_warned_about(made, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made("pairs"), out)
    remove(out, "checksums.sha256")
    edit_json(out, "manifest.json", checksums="")
    (finding,) = check_master(out)
    assert (finding.file, finding.severity) == ("checksums.sha256", "warning")


def test_an_interrupted_run_is_only_warned_about(made, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made("pairs"), out)
    edit_json(out, "manifest.json", status="interrupted")
    (finding,) = check_master(out)
    assert (finding.file, finding.severity) == ("manifest.json", "warning")


def test_other_peoples_files_at_the_root_are_no_business_of_ours(made, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made("pairs"), out)
    write(out, "notes.txt")
    write(out, "figures/plot.png")
    (out / "README.md").write_text("rewritten by its owner")
    assert list(check_master(out)) == []


def test_empty_and_mixed_folders(made, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(made("building"), out)
    shutil.copytree(made("parquet") / "data", out / "data")
    assert "holds both" in " ".join(finding.message for finding in check_master(out))
    shutil.rmtree(out / "data")
    shutil.rmtree(out / "train")
    assert "no sample" in " ".join(finding.message for finding in check_master(out))


def test_scenes_of_one_class_may_look_alike(tmp_path) -> None:
    """Bare ground twice is no repeated sample; the same picture twice is."""
    image = picture(1)[0]
    for name, pixels in (("a", image), ("b", np.ascontiguousarray(image[::-1])), ("c", image)):
        for folder, array in (("images", pixels), ("masks", np.zeros((128, 128), np.uint8))):
            (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / "in" / folder / f"{name}.png")
    Image.fromarray(write_mask()).save(tmp_path / "in/masks/b.png")
    recipe = {
        "source": {"input": str(tmp_path / "in"), "classes": ("background", "building")},
        "synthesis": {"strength": 0, "nuisance": "none"},
        "output": {"path": str(tmp_path / "out")},
    }
    generate(build_recipe(recipe))
    (finding,) = check_master(tmp_path / "out")
    assert (finding.file, finding.severity) == ("train/images/c_v00_t0.png", "warning")
    assert "image of date 0 is that of a_v00" in finding.message


def write_mask() -> np.ndarray:
    return (picture(1)[1] > 0).astype(np.uint8)
