"""``changen train-detector``: from pairs whose change is known to a detector that ``changen detect`` takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from changen_cli.core.errors import ModelError, UsageError
from changen_cli.workflows.detection_data import read_tiles
from changen_cli.workflows.image_pairs import open_real_pairs
from changen_cli.workflows.setup import choose_compute
from changen_cli.workflows.train import TrainProgress

if TYPE_CHECKING:
    from changen_cli.synthesis.detector import ChangeDetector
    from changen_cli.training.detection_pairs import PairTile
    from changen_cli.training.tiles import TilePool


@dataclass(frozen=True)
class DetectorRequest:
    """Everything ``changen train-detector`` can be told.

    Attributes:
        datasets: Datasets of changen, and folders of real pairs.
        output: Model folder.
        size: ``"small"`` or ``"1x256"``.
        init: What to start from: a detector's file or folder, ``"segmenter"``, ``"none"``; when None, the bundled
            segmenter for the small size and random weights for the other.
        license: Licence of the weights, stored with them.
        crop_size: Side of a training crop in px.
        validation_share: Share of the pairs kept out, by place.
        loop: Settings of the training loop by name, see :class:`changen_cli.training.loop.LoopSettings`.
        resume: Continue from the checkpoint in the output folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``.
        threads: CPU threads of the network.
    """

    datasets: tuple[Path, ...]
    output: Path
    size: Literal["small", "1x256"] = "small"
    init: str | None = None
    license: str = ""
    crop_size: int = 128
    validation_share: float = 0.1
    loop: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None


def train_detector(request: DetectorRequest, progress: TrainProgress) -> Path:
    """Train a change detector.

    Returns:
        The model folder.

    Raises:
        UsageError: When options do not fit each other, the input or the checkpoint.
        ModelError: When the detector to start from cannot be read, or training diverges.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with the state saved.
    """
    from changen_cli.training.detection_pairs import LabelledPairs
    from changen_cli.training.detector import DetectorTask
    from changen_cli.training.loop import LoopSettings, run
    from changen_cli.training.tiles import TilePool, split_by_place

    compute = choose_compute(request.device, request.dtype, request.threads)
    if (request.output / "checkpoint.pt").exists() and not request.resume:
        raise UsageError(
            f"{request.output} holds a checkpoint", "Pass --resume to continue it, or choose another --output"
        )
    settings = LoopSettings(**({"dtype": compute.dtype} | dict(request.loop)))
    model, initial = _detector(request, settings.seed)
    pool: TilePool[PairTile] = TilePool(request.output / f".tiles-{os.getpid()}")
    try:
        _read(request, pool, progress)
        tiles, held = split_by_place(pool.tiles(), request.validation_share, settings.seed)
        places = len({tile.group for tile in held})
        progress.note(
            f"{len(tiles)} pairs to learn from, {len(held)} of {places} places kept out for validation"
            if held
            else f"{len(tiles)} pairs to learn from; none is kept out for validation"
        )
        if request.license:
            model.register_to_config(license=request.license)
        facts = {"trained_on": [path.resolve().name for path in request.datasets], "initial": initial}
        run(
            DetectorTask(model, LabelledPairs(tiles, request.crop_size), held, facts=facts),
            settings,
            request.output,
            device=compute.device.split(":")[0],
            resume=request.resume,
            on_step=lambda step: progress.step(step, settings.max_images),
            on_figures=progress.figures,
        )
    finally:
        pool.close()
    return request.output


def _read(request: DetectorRequest, pool: TilePool[PairTile], progress: TrainProgress) -> None:
    for path in request.datasets:
        pairs = open_real_pairs(path, named="DATASET", most_steps=None)
        found = read_tiles(pairs, range(pairs.count), pool)
        progress.note(f"{path}: {found.count} pairs ({pairs.layout}), {len(found.skipped)} skipped")
        for skip in found.skipped[:5]:
            progress.note(f"  skipped {skip.path}: {skip.reason}")


def _detector(request: DetectorRequest, seed: int) -> tuple[ChangeDetector, str]:
    """The detector to train, and what it starts from."""
    from changen_cli.training.detector import new_detector

    init = request.init or ("segmenter" if request.size == "small" else "none")
    if init == "segmenter" and request.size != "small":
        raise UsageError(f"--init segmenter has not the shape of --size {request.size}", "Leave out one of the two")
    if init not in ("segmenter", "none") and not Path(init).exists():
        raise ModelError(f"--init {init} does not exist", "Give a detector's file or folder, segmenter or none")
    model = new_detector(request.size, seed, init=None if init == "none" else init)
    return model, init if init in ("segmenter", "none") else Path(init).resolve().name
