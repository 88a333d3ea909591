"""The report: everything of a dataset in one file, within bounds, and nothing in it that a dataset could run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.exports.master import Stored, open_master
from changen_cli.exports.polygons import fill_polygon
from changen_cli.workflows.report import LOOKS, make_report
from changen_cli.workflows.report_index import Entry, Index, choose, rejections
from changen_cli.workflows.report_page import PARTS, SCRIPTS, STYLES, script_json
from changen_cli.workflows.report_rejects import rejects
from changen_cli.workflows.report_sample import outline
from tests.hub.datasets import write_dataset

HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=alert(1)> & \u2028 '\""


def parts(page: Path) -> tuple[str, dict[str, Any], dict[int, Any]]:
    """The text of a page, its overview, and its samples by number."""
    text = page.read_text(encoding="utf-8")
    found = dict(re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', text, re.DOTALL))
    overview = json.loads(found.pop("data"))
    return text, overview, {int(name.removeprefix("sample-")): json.loads(value) for name, value in found.items()}


def change_rows(dataset: Path, **values: Any) -> None:
    table = dataset / "train" / "metadata.jsonl"
    first, *others = table.read_text().splitlines()
    table.write_text("\n".join([json.dumps(json.loads(first) | values), *others]) + "\n")


def picture(address: str) -> Image.Image:
    kind, data = address.split(";base64,")
    assert kind in ("data:image/webp", "data:image/png")
    return Image.open(io.BytesIO(base64.b64decode(data)), formats=["WEBP", "PNG"])


def stored_picture(stored: Stored) -> Image.Image:
    return Image.fromarray(stored.array())


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_the_page_holds_every_sample(tmp_path: Path, layout) -> None:
    out = write_dataset(tmp_path / "out", layout=layout)
    made = make_report(out)
    assert made.path == out / "report.html" and made.size == made.path.stat().st_size
    _, overview, samples = parts(made.path)
    originals = list(open_master(out).samples())
    assert made.shown == made.total == overview["total"] == len(samples) == len(originals)
    for number, original in enumerate(originals):
        sample = samples[number]
        assert sample["row"] == original.row
        assert [event["id"] for event in sample["events"]] == [event["object_id"] for event in original.events]
        for shown, stored in zip(sample["images"], original.images, strict=True):
            seen, meant = (np.asarray(image.convert("L")).ravel() for image in (picture(shown), stored_picture(stored)))
            assert np.corrcoef(seen, meant)[0, 1] > 0.95
        for shown, mask in zip(sample["masks"], original.mask_arrays, strict=True):
            assert np.array_equal(np.asarray(picture(shown)), mask)
    assert overview["figures"]["by_step"] == {"create": [len(originals)]}
    area = sum(event["area_px"] for original in originals for event in original.events)
    assert overview["figures"]["matrix"] == [[[0, 0], [len(originals), area]], [[0, 0], [0, 0]]]


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    first, second = (make_report(out, output=tmp_path / name).path.read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_nothing_is_loaded_and_only_our_script_runs(tmp_path: Path) -> None:
    text = make_report(write_dataset(tmp_path / "out")).path.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].replace("&#x27;", "'").split("; "))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (inline,) = re.findall(rf'<{tag}(?: type="module")?>(.*?)</{tag}>', text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    without = re.sub(r"http://www\.w3\.org/2000/svg", "", text)
    assert not re.search(r"https?://|//cdn|@import|url\(", without)
    assert not re.search(r"<(?:link|script|img|iframe)[^>]+(?:src|href)=\"(?!data:,)", without)


@pytest.mark.parametrize("name", [*SCRIPTS, *STYLES, "page.html"])
def test_parts_are_short_and_write_no_markup(name) -> None:
    text = (PARTS / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert name == "page.html" or "</" not in text


def test_texts_of_a_dataset_stay_texts(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    change_rows(out, notes=[HOSTILE], source_path=HOSTILE, rejected=[{"reason": HOSTILE}], odd=float("nan"))
    log = min((out / "train" / "events").iterdir())
    event = json.loads(log.read_text().splitlines()[0])
    log.write_text(json.dumps(event | {"object_id": HOSTILE, "kind": HOSTILE, "polygon": HOSTILE}) + "\n")
    (out / "evaluation.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    hostile = out.rename(tmp_path / "<b>&amp;")
    text, overview, samples = parts(make_report(hostile).path)
    assert text.count("</script>") == 2 + len(samples) and "onerror" in text
    assert "<img" not in text.replace("&lt;", "") and "<b>" not in text
    row = samples[0]["row"]
    assert row["notes"] == [HOSTILE] and row["odd"] is None and overview["audit"] == [[HOSTILE, HOSTILE]]
    assert overview["samples"][0]["rejected"] == [HOSTILE] and overview["name"] == "<b>&amp;"
    (event,) = samples[0]["events"]
    assert event["id"] == event["kind"] == HOSTILE and "outline" not in event


@pytest.mark.parametrize("value", [HOSTILE, {"a": [1.5, None, True, {"<": ">"}]}, "ü\ud800"])
def test_json_stands_in_a_script(value) -> None:
    text = script_json(value)
    assert text.isascii() and not set("<>&") & set(text)
    assert json.loads(text) == value


def test_what_is_nested_deeply_is_cut() -> None:
    value: Any = 1
    for _ in range(800):
        value = {"a": [value]}
    assert script_json(value).count("{") == 13


def test_pictures_become_smaller_then_samples_fewer(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out", 5, side=256)
    whole = make_report(out, output=tmp_path / "whole.html")
    assert whole.side_px == LOOKS[0].side_px and whole.shown == 5
    half = make_report(out, output=tmp_path / "half.html", max_bytes=whole.size // 2)
    assert half.size <= whole.size // 2 and half.shown == 5 and half.side_px < 256
    tiny = make_report(out, output=tmp_path / "tiny.html", max_bytes=half.size // 2)
    assert tiny.size <= half.size // 2 and 0 < tiny.shown < 5 and tiny.side_px == LOOKS[-1].side_px
    _, overview, samples = parts(tiny.path)
    assert overview["total"] == 5 and [entry["n"] for entry in overview["samples"]] == sorted(samples)
    chosen = choose(Index(open_master(out).logs()).entries, 5)
    assert {entry.number for entry in chosen[: tiny.shown]} == set(samples)


def entry(number: int, *kinds: str, rejected: tuple[str, ...] = ()) -> Entry:
    return Entry(number, f"s{number:05d}", kinds, (0, 1), 0.1, len(kinds), rejected, 2)


def test_the_choice_is_spread_over_kinds_and_always_the_same() -> None:
    entries = [entry(n, "create") for n in range(900)] + [entry(n, "create", "swap") for n in range(900, 905)]
    entries += [entry(905), entry(906, "create", rejected=("seam",)), *(entry(n, "damage") for n in range(907, 930))]
    chosen = choose(entries, 20)
    assert len({e.number for e in chosen}) == 20
    assert chosen == choose(list(reversed(entries)), 20)
    assert sum("swap" in e.kinds for e in chosen) == 5 and {905, 906} <= {e.number for e in chosen}
    assert sum("damage" in e.kinds for e in chosen) >= 4 and sum(e.kinds == ("create",) for e in chosen) >= 4
    assert max(e.number for e in chosen if e.number < 900) > 100  # not the first ones only
    assert choose(entries, 10) == chosen[:10]
    assert len(choose(entries, 5000)) == len(entries)


@pytest.mark.parametrize(
    ("noted", "told"),
    [(None, []), ([], []), (False, []), (True, ["rejected"]), (["seam", {"reason": "blur"}], ["seam", "blur"]),
     ({"seam": 2}, ["seam: 2"]), (3, ["3"])],
)  # fmt: skip
def test_rejections_in_whatever_form(noted, told) -> None:
    assert list(rejections({"rejected": noted})) == told


def test_rejected_attempts_are_shown_and_nothing_else_that_lies_beside_them(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    assert rejects(out) == []
    (out / "rejected").mkdir()
    for number, name in enumerate(("b_v00_a1_seam", "a_a2_v01_a0_grain", "a_v00_a0_seam")):
        Image.new("RGB", (64, 16), (number, 99, 0)).save(out / "rejected" / f"{name}.jpg", "JPEG")
    (out / "rejected" / "a_v00_a1_colour.jpg").write_bytes(b"<svg onload=alert(1)>")
    (out / "rejected" / "a_v00_a2_colour.jpg").write_bytes(b"\xff\xd8\xff" + bytes(300_000))
    (out / "rejected" / "notes.txt").write_text("x")
    (tmp_path / "secret").write_bytes(b"\xff\xd8\xffsecret")
    (out / "rejected" / "a_v00_a3_colour.jpg").symlink_to(tmp_path / "secret")
    found = rejects(out)
    assert [(item["id"], item["attempt"], item["reason"]) for item in found] == [
        ("a_a2_v01", 0, "grain"),
        ("a_v00", 0, "seam"),
        ("b_v00", 1, "seam"),
    ]
    (out / "rejected" / "a_v00_a3_colour.jpg").unlink()
    page, overview, _ = parts(make_report(out).path)
    assert overview["rejects"] == found and page.count("data:image/jpeg") == 3


def test_outlines_lie_within_a_pixel_of_the_changed_pixels() -> None:
    stairs = [(col, row) for row in range(40) for col in (10 + row // 2, 10 + (row + 1) // 2)]
    ring = [*stairs, (60, 39), (60, 0), (10, 0)]
    text = "POLYGON ((" + ", ".join(f"{x} {y}" for x, y in ring) + "), (40 10, 50 10, 50 20, 40 20, 40 10))"
    d = outline(text)
    assert d.count("M") == d.count("z") == 2 and len(d.split()) < 20
    drawn = Image.new("1", (80, 80))
    for path, value in zip(d.removesuffix("z").split("z"), (1, 0), strict=True):
        numbers = [float(number) for number in path.removeprefix("M").split()]
        ImageDraw.Draw(drawn).polygon(list(zip(numbers[::2], numbers[1::2], strict=True)), fill=value)
    inside, (row0, col0, row1, col1) = fill_polygon(text)
    exact = np.zeros((80, 80), bool)
    exact[row0:row1, col0:col1] = inside
    assert (np.asarray(drawn) != exact).sum() < 0.5 * (4 * 40 + 100)  # half a pixel along the rim
    assert outline("POLYGON EMPTY") == outline("x") == outline("POLYGON ((0 0, 1e9 0, 1e9 1, 0 0))") == ""


def test_figures_of_an_evaluation_are_shown_flat(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    (out / "evaluation.json").write_text(json.dumps({"cue": {"blur_auc": 0.61, "n": 4}, "note": "fine", "list": [1]}))
    _, overview, _ = parts(make_report(out).path)
    assert overview["audit"] == [["cue.blur_auc", 0.61], ["cue.n", 4], ["note", "fine"]]
    (out / "evaluation.json").write_text("no JSON")
    assert parts(make_report(out).path)[1]["audit"] == []


@pytest.mark.parametrize("name", ["train/x.html", "train/images/x.html", "report.txt", "folder.html"])
def test_places_where_no_report_belongs(tmp_path: Path, name) -> None:
    out = write_dataset(tmp_path / "out")
    (out / "folder.html").mkdir()
    with pytest.raises(UsageError, match="--output"):
        make_report(out, output=out / name)


def test_a_broken_dataset_leaves_no_report(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "out")
    next((out / "train" / "images").iterdir()).write_bytes(b"no image")
    with pytest.raises(OutputError, match=r"cannot be read"):
        make_report(out)
    log = next((out / "train" / "events").iterdir())
    log.write_text('{"kind": "create"}\n')
    with pytest.raises(OutputError, match=r"scene0.*its metadata or events are not as they should be"):
        make_report(out)
    assert not list(out.glob("*.html")) and not list(out.glob(".partial*"))


def test_overwriting_a_dataset_removes_its_report(tmp_path: Path) -> None:
    from changen_cli.workflows.setup import clear_output

    out = write_dataset(tmp_path / "out")
    make_report(out)
    clear_output(out)
    assert not (out / "report.html").exists()
