"""Published states: other containers, other prefixes, what the tensors do not say, and files that are broken."""

from __future__ import annotations

import argparse
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from changen_cli.core.errors import ModelError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.synthesis import RSDiT, load_published
from changen_cli.synthesis.hub import KNOWN, ModelFile, find_autoencoder, find_model
from changen_cli.synthesis.models import load_autoencoder, load_model
from changen_cli.synthesis.published import HEADS, LICENSE

FIXTURE = Path(__file__).parents[2].parent / "shared" / "fixtures" / "rsdit-tiny.safetensors"
needs_fixture = pytest.mark.skipif(not FIXTURE.is_file(), reason="the published fixture is not here")
XVIEW2, OEM = KNOWN


@pytest.fixture
def state(tiny_rsdit) -> dict[str, torch.Tensor]:
    """A state under the published names, of width 32 with 2 heads and windows of 4."""
    return {name: value.clone() for name, value in tiny_rsdit(seed=4).state_dict().items()}


def put(folder: Path, state: Any, name: str = "model.safetensors", **config: Any) -> Path:
    """Write a state in the container its name asks for, and a configuration beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".safetensors"):
        save_file(state, folder / name)
    else:
        torch.save(state, folder / name)
    (folder / "config.json").write_text(json.dumps({"num_heads": 2, "window_size": 4} | config))
    return folder


def same(model: RSDiT, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[name].float()) for name, value in model.state_dict().items())


@needs_fixture
@pytest.mark.parametrize("container", ["as it is", "pytorch_model.bin", "net.pt", "last.ckpt", "model.safetensors"])
def test_parity_through_every_container(tmp_path: Path, container: str) -> None:
    """The loader, not only the network, must give the published implementation's answer."""
    tensors = load_file(FIXTURE)
    path = FIXTURE
    if container != "as it is":
        inner = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
        wrapped: Any = {f"module.{name}": value for name, value in inner.items()}
        if not container.endswith(".safetensors"):
            worse = {name: torch.zeros_like(value) for name, value in inner.items()}
            wrapped = {"epoch": 3, "args": argparse.Namespace(lr=1e-4), "model": worse, "ema": wrapped}
        path = put(tmp_path / "m", wrapped, container, num_heads=4, window_size=4)
    model = load_model(find_model(str(path)))
    with torch.no_grad():
        out = model(tensors["input.latent"], tensors["input.timestep"], tensors["input.label"]).sample
    assert (out - tensors["output"]).abs().max() <= 1e-4
    assert model.config["license"] == LICENSE


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "ema.", "model.module.", "net.backbone."])
def test_prefixes(tmp_path: Path, state, prefix: str) -> None:
    beside = {"logvar": torch.ones(3)} if prefix else {}
    put(tmp_path / "m", {prefix + name: value for name, value in state.items()} | beside)
    assert same(load_model(find_model(str(tmp_path / "m"))), state)


def test_averaged_weights_are_taken(tmp_path: Path, state) -> None:
    both = {f"model.{name}": value + 1 for name, value in state.items()}
    both |= {f"model_ema.{name}": value for name, value in state.items()}
    assert same(load_model(find_model(str(put(tmp_path / "a", both)))), state)
    nested = {"state_dict": {"model": {name: value + 1 for name, value in state.items()}}, "step": 7}
    with pytest.raises(AssertionError):
        assert same(load_model(find_model(str(put(tmp_path / "b", nested, "x.pt")))), state)


def test_half_precision_comes_back_as_float32(tmp_path: Path, state) -> None:
    half = {name: value.bfloat16() for name, value in state.items()}
    model = load_model(find_model(str(put(tmp_path / "m", half, "m.pth"))))
    assert model.dtype == torch.float32
    assert same(model, half)


@pytest.mark.parametrize(
    ("folder", "planes", "classes", "licence"),
    [
        (XVIEW2.id.split("/")[1], 1, ("building",), "CC BY-NC-SA 4.0"),
        (OEM.id.split("/")[1], 8, OPENEARTHMAP, "CC BY-NC-SA 4.0"),
        (OEM.id.split("/")[1], 9, ("background", *OPENEARTHMAP), "CC BY-NC-SA 4.0"),
        (XVIEW2.id.split("/")[1], 2, ("background", "building"), "CC BY-NC-SA 4.0"),
        ("mine", 1, ("building",), LICENSE),
        ("mine", 8, OPENEARTHMAP, LICENSE),
        (OEM.id.split("/")[1], 1, None, ""),
        (OEM.id.split("/")[1], 7, None, ""),
        ("mine", 5, None, ""),
    ],
)
def test_what_the_planes_mean(tmp_path: Path, tiny_rsdit, folder, planes, classes, licence) -> None:
    place = put(tmp_path / folder, tiny_rsdit(label_channels=planes).state_dict())
    if classes is None:
        with pytest.raises(ModelError, match=f"{planes} label planes") as error:
            load_model(find_model(str(place)))
        assert '"classes"' in str(error.value) and str(place) in str(error.value)
        named = [f"c{index}" for index in range(planes)]
        put(place, tiny_rsdit(label_channels=planes).state_dict(), classes=named, license="MIT")
        classes, licence = tuple(named), "MIT"
    config = load_model(find_model(str(place))).config
    assert (tuple(config["classes"]), config["license"], config["unknown_plane"]) == (classes, licence, False)
    assert (config["codec"], config["beta_schedule"], config["learn_sigma"]) == ("vae", "linear", True)


@pytest.mark.parametrize("width", sorted(HEADS))
def test_heads_of_the_published_widths(width: int) -> None:
    model = RSDiT(hidden_size=width, depth=1, num_heads=HEADS[width])
    back = load_published(model.state_dict())
    assert back.config["num_heads"] == {384: 6, 768: 12, 1024: 16, 1152: 16}[width]
    assert back.config["depth"] == 1


def test_other_widths_need_a_word(state) -> None:
    with pytest.raises(ModelError, match="width 32"):
        load_published(state)


def test_a_full_size_state(tmp_path: Path) -> None:
    """B/2 as published, 140 million weights: through the same path, and one pass at 256 px."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {
            name: value.shape for name, value in RSDiT(hidden_size=768, depth=12, num_heads=12).state_dict().items()
        }
    # A million numbers repeated: drawing all of them would take longer than everything else.
    pool = torch.randn(1 << 20).mul(0.02).bfloat16()
    drawn = {f"module.{name}": _fill(pool, shape) for name, shape in shapes.items()}
    folder = tmp_path / XVIEW2.id.split("/")[1]
    folder.mkdir()
    save_file(drawn, folder / "model.safetensors")
    model = load_model(find_model(str(folder)))
    assert sum(value.numel() for value in model.parameters()) == 140_422_208
    shape = {key: model.config[key] for key in ("hidden_size", "depth", "num_heads", "window_size", "patch_size")}
    assert shape == {"hidden_size": 768, "depth": 12, "num_heads": 12, "window_size": 8, "patch_size": 2}
    with torch.no_grad():
        out = model(torch.randn(1, 4, 32, 32), 500, torch.ones(1, 1, 256, 256)).sample
    assert out.shape == (1, 8, 32, 32)
    assert out.isfinite().all() and out.std() > 1e-3


def _fill(pool: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    count = shape.numel()
    return pool.repeat(-(-count // len(pool)))[:count].reshape(shape)


class Bomb:
    """What a checkpoint must not be able to do: run something when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def test_pickles_run_no_code(tmp_path: Path, state) -> None:
    put(tmp_path / "m", state | {"evil": Bomb(tmp_path / "bang")}, "m.pt")
    with (tmp_path / "plain.pth").open("wb") as file:
        pickle.dump({"evil": Bomb(tmp_path / "bang")}, file)
    for name in ("m/m.pt", "plain.pth"):
        with pytest.raises(ModelError, match="not readable as plain weights") as error:
            load_model(find_model(str(tmp_path / name)))
        assert "\n" not in str(error.value) and name in str(error.value)
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m.bin", "m.ckpt"])
@pytest.mark.parametrize("damage", ["cut", "cut early", "empty", "garbage", "text"])
def test_broken_files_give_one_line(tmp_path: Path, state, name: str, damage: str) -> None:
    path = put(tmp_path, state, name) / name
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-100], "cut early": whole[:50], "empty": b"", "garbage": bytes(range(256)) * 40,
            "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        }[damage]
    )  # fmt: skip
    with pytest.raises(ModelError) as error:
        load_model(find_model(str(path)))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "content", [{}, [1, 2], {"epoch": 3}, {"state_dict": {"fc.weight": torch.ones(2)}}, torch.ones(3)]
)
def test_pickles_that_hold_something_else(tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ModelError) as error:
        load_model(ModelFile("m", tmp_path / "m.pt"))
    assert "\n" not in str(error.value) and "m.pt" in str(error.value)


@pytest.mark.parametrize("kind", ["tiny_hybrid", "tiny_rsdit"])
def test_diffusers_folders(request, tmp_path: Path, kind: str) -> None:
    """A model's own folder, and the folder of a whole pipeline."""
    from changen_cli.synthesis import ChangenPipeline
    from changen_cli.synthesis.schedulers import make_scheduler

    model = request.getfixturevalue(kind)(seed=2, license="MIT")
    model.save_pretrained(tmp_path / "model")
    ChangenPipeline(model, make_scheduler("ddim", model.config)).save_pretrained(tmp_path / "pipe")
    for folder in ("model", "pipe"):
        found = find_model(str(tmp_path / folder))
        back = load_model(found)
        assert type(back) is type(model)
        assert back.config["license"] == "MIT"
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), back.parameters(), strict=True))
        assert bool(found.autoencoder) == (folder == "pipe")


def damaged_autoencoder(folder: Path, damage: str) -> None:
    weights = folder / "diffusion_pytorch_model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "tensors missing":
        state = load_file(weights)
        save_file({name: value for name, value in state.items() if "decoder" not in name}, weights)
    elif damage == "no configuration":
        (folder / "config.json").unlink()
    elif damage == "broken configuration":
        (folder / "config.json").write_text("{")
    elif damage == "something else":
        (folder / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))


@pytest.mark.parametrize(
    "damage", ["cut", "tensors missing", "no configuration", "broken configuration", "something else", "none"]
)
def test_autoencoders(tiny_autoencoder: Callable[..., Path], tiny_rsdit, damage: str, capfd) -> None:
    folder = tiny_autoencoder()
    damaged_autoencoder(folder, damage)
    config = tiny_rsdit().config
    if damage == "none":
        vae = load_autoencoder(find_autoencoder(str(folder)), config)
        with torch.no_grad():
            assert vae.decode(vae.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mode()).sample.shape == (1, 3, 32, 32)
    else:
        with pytest.raises(ModelError) as error:
            load_autoencoder(find_autoencoder(str(folder)), config)
        assert "\n" not in str(error.value) and str(folder) in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("settings", "reason"), [({"latent_channels": 16}, "16 channels"), ({"levels": 3}, "1/4")])
def test_autoencoders_that_do_not_fit(tiny_autoencoder, tiny_rsdit, settings, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        load_autoencoder(find_autoencoder(str(tiny_autoencoder(**settings))), tiny_rsdit().config)
