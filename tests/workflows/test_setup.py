from __future__ import annotations

from pathlib import Path

import pytest

from changen_cli.core.errors import ModelError, OutputError, UsageError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.sources.folder import open_source
from changen_cli.workflows import setup
from changen_cli.workflows.setup import build_library, choose_compute, clear_output, model_path, unpack_sample


def test_compute() -> None:
    import torch

    try:
        chosen = choose_compute("cpu", "auto", 1)
        assert (chosen.device, chosen.dtype, chosen.threads) == ("cpu", "float32", 1)
        assert torch.get_num_threads() == 1
        assert choose_compute("cpu", "bfloat16").dtype == "bfloat16"
        assert choose_compute("cpu").threads >= 1
        for device in ("cuda:99", "abacus"):
            with pytest.raises(UsageError) as error:
                choose_compute(device)
            assert "\n" not in str(error.value)
    finally:
        torch.set_num_threads(1)


def test_models_by_name_file_and_folder(model_file: Path, tmp_path: Path) -> None:
    assert model_path(str(model_file)) == model_file
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match="holds no weights"):
        model_path(str(tmp_path / "mine"))
    with pytest.raises(ModelError, match="neither bundled"):
        model_path(str(tmp_path / "nowhere" / "mine"))
    target = tmp_path / "mine" / "model.safetensors"
    target.write_bytes(model_file.read_bytes())
    assert model_path(str(tmp_path / "mine")) == target


MINI = setup.BUNDLED / "changen-mini.safetensors"


@pytest.mark.skipif(not MINI.is_file(), reason="the bundled model is not here")
def test_the_bundled_model_loads() -> None:
    from changen_cli.synthesis.models import load_model, read_facts

    assert model_path("changen-mini") == MINI
    model = load_model(MINI)
    assert model.config["codec"] == "pixel"
    assert tuple(model.config["classes"]) == OPENEARTHMAP
    assert read_facts(MINI)["images_seen"] > 0
    assert MINI.stat().st_mode & 0o444 == 0o444, "a package's files are read by everybody"


def test_the_library_depends_on_the_folder_only(xbd_tree: Path, monkeypatch) -> None:
    def names(source):
        return [(e.scene_id, e.object_id) for e in build_library(source)]

    source = open_source(xbd_tree)
    found = names(source)
    assert len(found) == 16
    assert names(source) == found
    assert names(open_source(xbd_tree, res=64)) != found
    monkeypatch.setattr(setup, "LIBRARY_SCENES", 1)
    assert names(source) == found[:8]
    monkeypatch.setattr(setup, "LIBRARY_EXEMPLARS_PER_SCENE", 3)
    assert names(source) == found[:3]


def test_clearing_removes_only_what_a_run_writes(tmp_path: Path) -> None:
    ours = (
        "train/images/a_v00_t0.png",
        "train/masks/a_v00_t0.tif",
        "train/changes/a_v00_t0_t1.png",
        "train/events/a_v00.jsonl",
        "train/metadata.jsonl",
        "data/train-00000-of-00001.parquet",
        ".staging/a.json",
    )
    theirs = ("data/keep.txt", "keep/train/a.png", "keep.txt", "train/images/holiday.png", "train/mine/a_t0.png")
    for name in (*ours, *theirs):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for name in ("README.md", "classes.json", "manifest.json", "preview.png"):
        (tmp_path / name).write_text("x")
    clear_output(tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(theirs)
    assert not (tmp_path / "train" / "events").exists()
    clear_output(tmp_path)
    clear_output(tmp_path / "nowhere")


def test_the_sample_is_complete_and_readable(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    assert unpack_sample(folder) == 3
    assert (folder / "CREDITS.md").is_file()
    source = open_source(folder)
    assert source.layout == "xbd"
    assert source.count_images() == 3
    with pytest.raises(OutputError, match="exists already"):
        unpack_sample(folder)
