"""The manifest: what a run promised before it started, and what it did, completed when it ends."""

from __future__ import annotations

import os
import platform
import socket
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from changen_cli import __version__
from changen_cli.core.errors import OutputError
from changen_cli.core.files import write_text
from changen_cli.core.recipe import Recipe
from changen_cli.core.untrusted import read_text

SCHEMA_VERSION = 1
Status = Literal["running", "complete", "interrupted", "failed"]
FILE_NAME = "manifest.json"
_MANIFEST_BYTES = 1 << 30
"""That of a million scenes has a third."""
_LIBRARIES = ("torch", "diffusers", "numpy", "pillow", "rasterio", "scipy", "scikit-image", "datasets")


class ModelRecord(BaseModel):
    """The model that drew the images."""

    id: str
    sha256: str
    architecture: str = ""
    license: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)


class Closed(BaseModel):
    """What the tables hold that were written last.

    Attributes:
        shards: Shards of lower numbers.
        tables: Split → Parquet files.
    """

    shards: int
    tables: dict[str, int]


class Manifest(BaseModel):
    """Written first as a promise (``status="running"``) and completed last."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    status: Status = "running"
    fingerprint: str
    recipe: dict[str, Any]
    source: dict[str, Any]
    images: bool = True
    """Whether images were drawn; if not, what follows is empty."""
    model: ModelRecord | None = None
    unchanged_pixels: str = ""
    device: str = ""
    dtype: str = ""
    threads: int | None = None
    versions: dict[str, str]
    counts: dict[str, int] = Field(default_factory=dict)
    statistics: dict[str, Any] = Field(default_factory=dict)
    scenes: list[dict[str, Any]] = Field(default_factory=list)
    skipped: list[dict[str, Any]] = Field(default_factory=list)
    stock: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the images, with their labels, that exemplars and textures were collected from."""
    changed: dict[str, str] = Field(default_factory=dict)
    """Images that changed or vanished after samples, or new objects and ground, were made of them."""
    mixed: list[str] = Field(default_factory=list)
    """What was another way than at first when a run was taken up again: device, versions."""
    closed: Closed | None = None
    checksums: str = ""
    """SHA-256 of ``checksums.sha256``, which lists that of every other file of the dataset."""

    def claim(self, folder: Path) -> bool:
        """Write ``manifest.json`` unless there is one; returns whether it was written."""
        path, own = folder / FILE_NAME, folder / f".partial-{os.getpid()}-{socket.gethostname()}-{FILE_NAME}"
        write_text(own, self.model_dump_json(indent=1) + "\n")
        try:
            os.link(own, path)  # unlike a rename, fails when somebody was first
        except FileExistsError:
            return False
        finally:
            own.unlink()
        return True

    def save(self, folder: Path) -> Path:
        """Write ``manifest.json`` into ``folder``, atomically."""
        path = folder / FILE_NAME
        write_text(path, self.model_dump_json(indent=1) + "\n")
        return path


def library_versions() -> dict[str, str]:
    """Versions of changen, Python and the libraries that decide the bytes."""
    versions = {"changen": __version__, "python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in _LIBRARIES}


def new_manifest(recipe: Recipe, **facts: Any) -> Manifest:
    """Create the promise of a run."""
    return Manifest(
        fingerprint=recipe.fingerprint(), recipe=recipe.model_dump(mode="json"), versions=library_versions(), **facts
    )


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a dataset folder.

    Raises:
        OutputError: When there is none, or it is not one of ours.
    """
    path = folder / FILE_NAME
    try:
        return Manifest.model_validate_json(read_text(path, _MANIFEST_BYTES))
    except FileNotFoundError:
        raise OutputError(f"{folder} holds no {FILE_NAME}", "Name a folder that changen generate wrote") from None
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise OutputError(f"{path} cannot be read as a manifest: {reason}", "Make the dataset again") from None
