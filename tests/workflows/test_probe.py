"""The probe: three detectors of one start, the same pairs to test on, figures in the file and the card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from changen_cli.core.errors import UsageError
from changen_cli.core.types import ClassSchema
from changen_cli.exports.master import open_master
from changen_cli.synthesis.models import read_facts
from changen_cli.training.detection_pairs import NOTHING_SAID, PairTile
from changen_cli.workflows import probe as workflow
from changen_cli.workflows.detection_data import movable_classes
from changen_cli.workflows.evaluation import RIVALS
from changen_cli.workflows.probe import ProbeRequest, probe
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.validate import validate
from tests.hub.datasets import write_dataset

from .planted import pair, planted_sample

QUICK = ProbeRequest(pairs_seen=8, threads=1)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("probed") / "out", 8, make=planted_sample, kind="soft")


@pytest.fixture(autouse=True)
def small_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "_CROP_PX", 64)


def write_real(root: Path) -> Path:
    for number in range(2):
        before, after, change = pair("soft", 90 + number)
        for folder, pixels in (("A", before), ("B", after), ("label", change * np.uint8(255))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


def test_the_probe_goes_on_where_it_was_stopped(planted: Path, tmp_path: Path, monkeypatch) -> None:
    real = write_real(tmp_path / "real")
    request = ProbeRequest(pairs_seen=8, threads=1, real=real, unchanged=(real / "A", real / "B"))
    train, trained = workflow._train, []

    def stopped(name, source, folder, *rest):
        if name == "copy_paste" and not trained.count("stopped"):
            trained.append("stopped")
            raise KeyboardInterrupt
        return train(name, source, folder, *rest)

    monkeypatch.setattr(workflow, "_train", stopped)
    with pytest.raises(KeyboardInterrupt):
        probe(planted, request)
    kept = sorted((planted / ".probe").rglob("checkpoint.pt"))
    assert [path.parent.name for path in kept] == ["label_exchange", "ours"]
    before = [path.stat().st_mtime_ns for path in kept]
    seen = []
    monkeypatch.setattr(workflow, "try_detectors", lambda found, pairs, f=workflow.try_detectors: seen.append([path.stat().st_mtime_ns for path in kept]) or f(found, pairs))  # fmt: skip
    section = probe(planted, request)
    assert seen[0] == before, "what was trained is not trained again"
    assert not (planted / ".probe").exists() and validate(planted).findings == []
    assert section["tested_on"] == "real (levir-cd)" and section["tested_pairs"] == section["unchanged_pairs"] == 2
    for name in RIVALS:
        assert 0 <= section[f"ap_{name}"] <= 1 and 0 <= section[f"false_alarm_share_{name}"] <= 1
    assert json.loads((planted / "evaluation.json").read_text())["usefulness"] == section
    assert "| a detector that learned from copy-paste | F1 " in (planted / "README.md").read_text()


def test_without_real_pairs_places_are_held_out(planted: Path, tmp_path: Path) -> None:
    told = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    section = probe(planted, ProbeRequest(pairs_seen=8, threads=1, detectors=tmp_path / "kept"), Listening())
    assert "held-out places" in section["tested_on"] and section["tested_pairs"] == 2
    assert any("proves nothing real" in text for text in told)
    assert read_facts(tmp_path / "kept" / "ours" / "model.safetensors")["trained_on"]["count"] == 6
    assert "unchanged_pairs" not in section
    with pytest.raises(UsageError, match="of another probe"):
        probe(planted, ProbeRequest(pairs_seen=8, threads=1, seed=1, detectors=tmp_path / "kept"))


@pytest.mark.slow
def test_the_same_dataset_gives_the_same_figures(planted: Path, tmp_path: Path) -> None:
    request = ProbeRequest(pairs_seen=24, threads=1, real=write_real(tmp_path / "real"))
    first = probe(planted, request)
    assert probe(planted, request) == first
    assert probe(planted, replace(request, seed=1)) != first


def test_what_cannot_be_probed_is_said_before_training(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one place only"):
        probe(write_dataset(tmp_path / "one", 2, make=planted_sample, kind="soft"), QUICK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no two images show one place"):
        probe(planted, ProbeRequest(unchanged=(tmp_path / "empty",)))
    with pytest.raises(UsageError, match="--real"):
        probe(planted, ProbeRequest(real=tmp_path / "empty"))
    assert not (planted / ".probe").exists()


@pytest.mark.parametrize(
    ("names", "movable"),
    [(("background", "building"), (1,)), (("building", "background"), (0,)), (("unlabelled", "roof", "tree"), (1, 2))],
)
def test_of_a_set_of_buildings_buildings_are_pasted(names: tuple[str, ...], movable: tuple[int, ...]) -> None:
    assert movable_classes(ClassSchema(names)) == movable


def test_tiles_without_room_for_any_crop_are_told(planted: Path) -> None:
    image, mask = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.uint8)
    tile = PairTile(image, image, mask, mask, mask, NOTHING_SAID)
    with pytest.raises(UsageError, match="no image is as large as a crop of 16 px"):
        workflow._sources(open_master(planted), [tile], [0], Silent())
