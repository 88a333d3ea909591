from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from changen_cli.workflows.push import push_dataset
from changen_cli.workflows.push_target import PushReport, Target
from tests.hub.datasets import write_dataset
from tests.hub.server import serve
from tests.hub.state import Hub
from tests.workflows.pushes import ID, SHARD


def tree(folder: Path, *, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Every file below a folder but the log, which holds times, and the hash of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (*leave_out, "run.log")
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    """The metadata of a dataset."""
    return [json.loads(line) for line in (folder / "train" / "metadata.jsonl").read_text().splitlines()]


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def load(folder: Path, name: str) -> np.ndarray:
    """One image of a dataset's train split."""
    return np.asarray(Image.open(folder / "train" / name))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with serve(tmp_path / "hub", page=5) as (url, state):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        yield state


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds our own retries wait; neither they nor the client's really do."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    return []


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Six samples of three places: three shards of :data:`SHARD` bytes."""
    return write_dataset(tmp_path / "out")


@pytest.fixture
def push(dataset: Path, waits: list[float]) -> Callable[..., PushReport]:
    """Return ``push(out=dataset, **settings)``; settings of the target and of the push alike."""

    def run(out: Path = dataset, **settings: Any) -> PushReport:
        names = ("repo_id", "private", "revision", "create_pr", "licence", "token")
        target = Target(**{"repo_id": ID} | {name: settings.pop(name) for name in names if name in settings})
        return push_dataset(out, target, **{"shard_bytes": SHARD, "sleep": waits.append} | settings)

    return run
