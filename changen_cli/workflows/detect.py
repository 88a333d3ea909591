"""``changen detect``: two images of one place to a map of what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from changen_cli.core.errors import OutputError, SceneError, UsageError
from changen_cli.core.files import atomic_path
from changen_cli.core.types import BoolArray, UInt8Array
from changen_cli.sources.raster import Raster, read_image
from changen_cli.sources.walk import IMAGE_SUFFIXES, list_folder
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.setup import choose_compute

if TYPE_CHECKING:
    from changen_cli.synthesis.detector import ChangeDetector

Map = UInt8Array | npt.NDArray[np.float32]
THRESHOLD = 0.5
_PANEL_PX = 1024
_TIFF = (".tif", ".tiff")
_RED = (230, 30, 60)
_NO_MODEL = (
    "Train one: changen train-detector DATASET --output my-detector, then changen detect A B --model my-detector"
)


@dataclass(frozen=True)
class Detected:
    """What was found in one pair.

    Attributes:
        change: The binary map: 255 changed, 0 not.
        probability: The map of probabilities.
        overlay: The picture for people.
        changed_share: Share of the pixels that changed, of those that both images show.
    """

    change: Path
    probability: Path
    overlay: Path
    changed_share: float


def detect(
    before: Path,
    after: Path,
    model: Path | None,
    *,
    output: Path | None = None,
    threshold: float = THRESHOLD,
    device: str = "auto",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Detected]:
    """Draw change maps.

    Args:
        before: An image, or a folder of images.
        after: The same of the other date; files of two folders belong together by their stems.
        model: A detector, or the folder it lies in.
        output: The change map, ``.png`` or ``.tif``; a folder where two folders are given. Beside each map lie
            ``<stem>_probability`` of the same kind and ``<stem>_overlay.png``.
        threshold: A pixel has changed where its probability is higher.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        threads: CPU threads.
        overwrite: Whether existing files are replaced.
        progress: Told how far it is.

    Returns:
        What was written, pair by pair.

    Raises:
        UsageError: There is no model, no pair, the images of a pair differ in size, or two pairs would be written to
            one file.
        SceneError: An image cannot be read.
        OutputError: A file is there already.
        ModelError: The model cannot be read.
    """
    if model is None:
        raise UsageError("--model is missing: no change detector comes with changen", _NO_MODEL)
    from changen_cli.synthesis.detector import load_detector

    compute = choose_compute(device, "float32", threads)
    detector, progress = load_detector(model).to(compute.device), progress or Silent()
    pairs = _pairs(before, after)
    targets = [_target(output, pair, many=before.is_dir()) for pair in pairs]
    read = {path.resolve() for pair in pairs for path in pair}
    taken: set[Path] = set()
    for target in targets:
        _check_target(target, read, taken, overwrite=overwrite)
    progress.stage("detecting")
    progress.total(len(pairs))
    done = []
    for number, (pair, target) in enumerate(zip(pairs, targets, strict=True), start=1):
        done.append(_detect(pair, target, detector, threshold, progress))
        progress.scene(number, number)
    return done


def _pairs(before: Path, after: Path) -> list[tuple[Path, Path]]:
    for path in (before, after):
        if not path.exists():
            raise UsageError(f"{path} does not exist", "Give two images, or two folders of images")
    if before.is_dir() != after.is_dir():
        raise UsageError(f"of {before} and {after} one is a folder", "Give two images, or two folders of images")
    if not before.is_dir():
        return [(before, after)]
    first, second = (_by_stem(folder) for folder in (before, after))
    common = sorted(first.keys() & second.keys())
    if not common:
        raise UsageError(f"{before} and {after} hold no images of the same name", "Files of a pair share a stem")
    return [(first[stem], second[stem]) for stem in common]


def _by_stem(folder: Path) -> dict[str, Path]:
    names = [name for name in list_folder(folder)[0] if name.lower().endswith(IMAGE_SUFFIXES)]
    return {Path(name).stem: folder / name for name in names}


def _target(output: Path | None, pair: tuple[Path, Path], *, many: bool) -> Path:
    """Where the change map goes; its suffix says how it is stored."""
    placed = pair[0].suffix.lower() in _TIFF
    if many:
        return (output or Path("changes")) / f"{pair[0].stem}{'.tif' if placed else '.png'}"
    target = output or Path(f"change{'.tif' if placed else '.png'}")
    if target.suffix.lower() not in (".png", *_TIFF):
        raise UsageError(f"--output {target}: a change map is no such file", "End its name in .png or .tif")
    return target


def _beside(target: Path) -> tuple[Path, Path]:
    return (
        target.with_name(f"{target.stem}_probability{target.suffix}"),
        target.with_name(f"{target.stem}_overlay.png"),
    )


def _check_target(target: Path, read: set[Path], taken: set[Path], *, overwrite: bool) -> None:
    for path in (target, *_beside(target)):
        if path in taken:
            raise UsageError(f"{path} would be written for two pairs", "Rename the images of one of them")
        taken.add(path)
        if path.resolve() in read:
            raise OutputError(f"{path} is one of the images to look at", "Choose another --output")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already", "Pass --overwrite to replace it, or another --output")


def _detect(
    pair: tuple[Path, Path], target: Path, detector: ChangeDetector, threshold: float, progress: Progress
) -> Detected:
    rasters = [_read(path) for path in pair]
    sizes = [raster.image.shape[:2] for raster in rasters]
    if sizes[0] != sizes[1]:
        shown = [f"{path} has {width} x {height} px" for path, (height, width) in zip(pair, sizes, strict=True)]
        raise UsageError(", ".join(shown), "Resample them to one grid first, e.g. with gdalwarp")
    apart = _apart(rasters)
    if apart > 1:
        progress.note(f"{pair[0].name} and {pair[1].name} lie {apart:.1f} px apart by their georeferences")
    probability = detector.predict(rasters[0].image, rasters[1].image)
    shown_by_both = np.ones(sizes[0], bool)
    for raster in rasters:
        if raster.nodata is not None:
            shown_by_both &= ~raster.nodata
    # What one date does not show has not changed as far as anybody knows.
    probability[~shown_by_both] = 0
    change = probability > threshold
    maps: dict[Path, Map] = {target: change.astype(np.uint8) * np.uint8(255), _beside(target)[0]: probability}
    for path, values in maps.items():
        _write_map(path, values, rasters[0])
    if target.suffix.lower() == ".png" and rasters[0].crs is not None:
        progress.note(f"{target.name} keeps no georeference; name it .tif for that")
    _write(_beside(target)[1], _overlay(rasters, change))
    share = float(change.sum() / max(1, shown_by_both.sum()))
    return Detected(target, *_beside(target), changed_share=share)


def _read(path: Path) -> Raster:
    try:
        return read_image(path)
    except SceneError as error:
        raise SceneError(f"{path}: {error}") from None


def _apart(rasters: Sequence[Raster]) -> float:
    """How many pixels the upper left corners lie apart; 0 where that is not known."""
    first, second = (raster.transform for raster in rasters)
    if first is None or second is None or rasters[0].crs != rasters[1].crs:
        return 0.0
    size = abs(first[0] * first[4] - first[1] * first[3]) ** 0.5
    return float(np.hypot(first[2] - second[2], first[5] - second[5]) / size)


def _write_map(path: Path, values: Map, like: Raster) -> None:
    """A map as PNG (probabilities as 0 to 255), or as TIFF as it is, with the georeference of the first image."""
    if path.suffix.lower() in _TIFF:
        from changen_cli.writers.images import encode_cog, encode_tiff

        placed = like.crs is not None and like.transform is not None
        data = encode_cog(values, like.crs, like.transform) if placed else encode_tiff(values)  # type: ignore[arg-type]
        _write(path, data)
        return
    from changen_cli.writers.images import encode_png

    grey = values if values.dtype == np.uint8 else np.rint(values * 255)
    _write(path, encode_png(grey.astype(np.uint8)))


def _write(path: Path, data: bytes) -> None:
    with atomic_path(path) as partial:
        partial.write_bytes(data)


def _overlay(rasters: Sequence[Raster], change: BoolArray) -> bytes:
    """Earlier date, later date, and the later date with what changed in red, side by side, reduced where large."""
    from changen_cli.writers.drawing import any_of, fit, outline
    from changen_cli.writers.images import encode_png

    height, width = change.shape
    scale = min(1.0, _PANEL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    panels = [fit(raster.image, size) for raster in rasters]
    marked = panels[1].copy()
    outline(marked, any_of(change, size), _RED, tint=0.35)
    gap = np.full((size[1], 6, 3), 255, np.uint8)
    return encode_png(np.concatenate([panels[0], gap, panels[1], gap, marked], axis=1))
