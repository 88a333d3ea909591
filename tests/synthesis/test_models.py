from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from changen_cli.core.errors import ModelError
from changen_cli.synthesis.models import load_model, read_facts, save_model


@pytest.mark.parametrize("kind", ["tiny_hybrid", "tiny_rsdit"])
def test_round_trip_is_bit_equal(request, tmp_path: Path, kind: str) -> None:
    model = request.getfixturevalue(kind)(seed=3, license="CC0-1.0")
    save_model(model, tmp_path / "m.safetensors", images_seen=17, data=["a", "b"])
    back = load_model(tmp_path / "m.safetensors")
    assert type(back) is type(model)
    assert not back.training
    assert back.config["license"] == "CC0-1.0"
    assert all(list(a) == list(b) if isinstance(a, (list, tuple)) else a == b for a, b in _pairs(model, back))
    assert list(back.state_dict()) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name
    assert read_facts(tmp_path / "m.safetensors") == {"images_seen": 17, "data": ["a", "b"]}
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode, "readable as any file"


def _pairs(first, second):
    keys = [key for key in first.config if not key.startswith("_")]
    return [(first.config[key], second.config[key]) for key in keys]


def test_half_precision_is_stored_small_and_read_as_float32(tmp_path: Path, tiny_hybrid) -> None:
    model = tiny_hybrid()
    for name, dtype in (("full", torch.float32), ("half", torch.bfloat16)):
        save_model(model, tmp_path / name, dtype=dtype)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "full").stat().st_size
    back = load_model(tmp_path / "half")
    assert back.dtype == torch.float32
    torch.testing.assert_close(back.stem.weight, model.stem.weight, rtol=1e-2, atol=1e-2)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def removed(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def without_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def unknown_architecture(path: Path) -> None:
    save_file(load_file(path), path, metadata={"architecture": "UNet", "config": "{}"})


def broken_config(path: Path) -> None:
    save_file(load_file(path), path, metadata={"architecture": "HybridRSDiT", "config": "{"})


def unknown_setting(path: Path) -> None:
    save_file(load_file(path), path, metadata={"architecture": "HybridRSDiT", "config": json.dumps({"colour": 1})})


def other_config(path: Path) -> None:
    save_file(load_file(path), path, metadata={"architecture": "HybridRSDiT", "config": json.dumps({"depth": 9})})


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        cut_to_nothing,
        garbage,
        removed,
        folder,
        without_metadata,
        unknown_architecture,
        broken_config,
        unknown_setting,
        other_config,
    ],
)
def test_damaged_files_give_one_line(tmp_path: Path, tiny_hybrid, damage) -> None:
    path = tmp_path / "m.safetensors"
    save_model(tiny_hybrid(), path)
    damage(path)
    with pytest.raises(ModelError) as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500
