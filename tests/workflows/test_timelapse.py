"""Time-lapses: every date of a sample, its changes outlined as they appear."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from changen_cli.core.errors import OutputError, UsageError
from changen_cli.exports.master import open_master
from changen_cli.workflows.timelapse import timelapse
from changen_cli.writers.drawing import CREATED
from tests.hub.datasets import write_dataset


def frames(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with Image.open(path, formats=["GIF", "WEBP"]) as film:
        assert film.info["loop"] == 0
        shown = [
            (np.asarray(frame.convert("RGB")).astype(int), frame.info["duration"])
            for frame in ImageSequence.Iterator(film)
        ]
    return [frame for frame, _ in shown], [time for _, time in shown]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_dates_in_order_each_with_its_changes_first(tmp_path, suffix) -> None:
    out = write_dataset(tmp_path / "out", dates=3, side=128)
    path = timelapse(out, sample="scene0002_v00", output=tmp_path / f"film{suffix}")
    pictures, times = frames(path)
    assert times == [1000, 600, 400, 600, 400] and pictures[0].shape == (128, 128, 3)
    sample = next(sample for sample in open_master(out).samples() if sample.id == "scene0002_v00")
    for place, date in ((0, 0), (2, 1), (4, 2)):
        seen = pictures[place][40:].mean(axis=2).ravel()  # below the name of the date
        fits = [np.corrcoef(seen, image.array()[40:].mean(axis=2).ravel())[0, 1] for image in sample.images]
        assert int(np.argmax(fits)) == date and fits[date] > 0.8
    for step in (0, 1):  # the outline left of what step built, rows 8 to 14 or 16 to 22
        rim = np.s_[8 * step + 8 : 8 * step + 14, 2:4]
        outlined, alone = (abs(pictures[2 * step + frame][rim] - CREATED).mean() for frame in (1, 2))
        assert outlined < 30 < 60 < alone


def test_smaller_quicker_plain(tmp_path) -> None:
    out = write_dataset(tmp_path / "out", dates=3, layout="parquet")
    pictures, times = frames(timelapse(out, output=tmp_path / "a.gif", width=32, seconds=0.5, outlines=False))
    assert times == [500] * 3 and pictures[0].shape == (32, 32, 3)
    assert (
        timelapse(out, output=tmp_path / "b.gif", width=32, seconds=0.5, outlines=False).read_bytes()
        == (tmp_path / "a.gif").read_bytes()
    )


def test_requests_that_cannot_be_met(tmp_path, monkeypatch) -> None:
    out = write_dataset(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert timelapse(out) == Path("scene0000_v00.gif")
    with pytest.raises(UsageError, match="holds no sample 'nobody'"):
        timelapse(out, sample="nobody")
    for name in ("film.mp4", "out/train/images/film.gif"):
        with pytest.raises(UsageError, match="--output"):
            timelapse(out, output=Path(name))
    log = min((out / "train" / "events").iterdir())
    log.write_text(
        json.dumps(json.loads(log.read_text().splitlines()[0]) | {"polygon": "POLYGON ((0 0, 900 0, 900 9, 0 9, 0 0))"})
    )
    with pytest.raises(OutputError, match="scene0000_v00: the polygon of an event"):
        timelapse(out, output=tmp_path / "c.gif")
    assert sorted(path.name for path in tmp_path.glob("*.gif")) == ["scene0000_v00.gif"]
