"""Usefulness: what a small change detector learns from a dataset, beside what it learns from cheaper pairs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changen_cli.core.errors import UsageError
from changen_cli.core.scores import ChangeScores
from changen_cli.core.seeding import derive_seed
from changen_cli.core.types import Skip
from changen_cli.exports.master import Master, open_master
from changen_cli.workflows.detection_data import (
    find_unchanged,
    first_dates,
    movable_classes,
    read_tiles,
    real_pairs,
    unchanged_pairs,
)
from changen_cli.workflows.evaluation import update_evaluation
from changen_cli.workflows.image_pairs import ImagePair, ImagePairs, made_pairs, open_real_pairs
from changen_cli.workflows.progress import Progress, Silent
from changen_cli.workflows.setup import choose_compute

if TYPE_CHECKING:
    from changen_cli.synthesis.detector import ChangeDetector
    from changen_cli.training.detection_pairs import PairSource, PairTile

PAIRS_SEEN = 2_400
"""Crops of pairs each detector learns from: three trainings of about four minutes of one core."""
SERIES = 400
"""Most series the crops are taken from."""
FOLDER = ".probe"
_HELD_SHARE = 0.25
_BATCH, _CROP_PX, _RATE = 8, 128, 1e-3
_SHOWN = ("f1", "f1_error", "iou", "ap", "precision", "recall", "area_ratio")


@dataclass(frozen=True)
class ProbeRequest:
    """How the probe is made.

    Attributes:
        real: Labelled real pairs to test on; places of the dataset itself, held out, when None.
        unchanged: Folders of real images of the same places, without labels, to count false alarms on.
        pairs_seen: Crops of pairs each detector learns from.
        samples: Most pairs of either kind to test on.
        seed: Seed of weights and crops.
        threads: CPU threads; the cores but one when None.
        detectors: Folder the three detectors stay in; none stays when None.
        init: What all three start from, see :func:`~changen_cli.training.detector.new_detector`.
    """

    real: Path | None = None
    unchanged: tuple[Path, ...] = ()
    pairs_seen: int = PAIRS_SEEN
    samples: int = 200
    seed: int = 0
    threads: int | None = None
    detectors: Path | None = None
    init: str | None = "segmenter"


def probe(out: Path, request: ProbeRequest | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Train the detector three times, try each on the same pairs, and write ``usefulness`` to ``OUT/evaluation.json``.

    The same shape, first weights, augmentations and number of crops each time. What was trained is kept until the
    probe is done: after Ctrl-C the same call goes on from there. On one kind of machine, with one number of threads,
    the same dataset gives the same figures.

    Args:
        out: A finished dataset with images.
        request: How.
        progress: Told how far it is.

    Returns:
        The section, see docs/evaluate.md.

    Raises:
        UsageError: There is nothing to learn from or to test on.
        OutputError: A file of the dataset cannot be read.
        KeyboardInterrupt: After Ctrl-C, with the state saved.
    """
    request, progress = request or ProbeRequest(), progress or Silent()
    master = open_master(out)
    made = made_pairs(master, most_steps=None)
    theirs = None if request.real is None else open_real_pairs(request.real)
    unchanged = find_unchanged(request.unchanged, request.samples)
    choose_compute("cpu", "float32", request.threads)
    work = request.detectors or out / FOLDER / f"{_key(master, request):016x}"
    trained, held = _train_all(master, made, work, request, progress)
    progress.stage("testing")
    tested: Iterable[ImagePair] = held
    if theirs is not None:
        tested = real_pairs(theirs, request.samples, progress)
    scores = try_detectors(trained, tested)
    if theirs is not None and not next(iter(scores.values())).counts:
        raise UsageError(f"--real {request.real}: no pair could be read", "Give another folder of pairs")
    section = _section(request, theirs, scores)
    if unchanged:
        progress.stage("false alarms")
        alarms = try_detectors(trained, unchanged_pairs(unchanged, progress))
        section["unchanged_pairs"] = len(next(iter(alarms.values())).counts)
        section |= {f"false_alarm_share_{name}": _rounded(each.false_alarm_share) for name, each in alarms.items()}
    update_evaluation(out, {"usefulness": section})
    if request.detectors is None:
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    return section


def try_detectors(detectors: dict[str, ChangeDetector], pairs: Iterable[ImagePair]) -> dict[str, ChangeScores]:
    """Let detectors look at the same pairs.

    Args:
        detectors: By name.
        pairs: Read once, one at a time.
    """
    scores = {name: ChangeScores() for name in detectors}
    for pair in pairs:
        for name, detector in detectors.items():
            scores[name].add(detector.predict(pair.before, pair.after), pair.change, pair.known)
    return scores


def _key(master: Master, request: ProbeRequest) -> int:
    """What was trained for this dataset, and for no other, with these settings, and no others."""
    names = (str(master.manifest.get("checksums")), request.pairs_seen, str(request.init), request.real is None)
    return derive_seed(request.seed, "probe", *names)


def _train_all(
    master: Master, made: ImagePairs, work: Path, request: ProbeRequest, progress: Progress
) -> tuple[dict[str, ChangeDetector], list[ImagePair]]:
    """The three detectors, and the pairs kept out where nothing else is there to test on."""
    from changen_cli.training.tiles import TilePool, split_by_place

    pool: TilePool[PairTile] = TilePool(work / ".tiles")
    try:
        progress.stage("reading")
        numbers = made.choose(SERIES)
        progress.total(len(numbers))
        found = read_tiles(made, numbers, pool, progress.scene)
        _tell(found.skipped, progress)
        tiles = pool.tiles()
        held: list[PairTile] = []
        if not tiles:
            raise UsageError(f"{master.root} holds no pair of dates to learn from", "Make more samples")
        first_of = {id(tiles[index]) for index in found.firsts}
        if request.real is None:
            tiles, held = split_by_place(tiles, _HELD_SHARE, request.seed)
            if not held:
                raise UsageError(f"{master.root} shows one place only, so none can be held out", "Give --real DIR")
            progress.note("no --real pairs: tested on held-out places of the dataset itself, which proves nothing real")
        scenes = [index for index, tile in enumerate(tiles) if id(tile) in first_of]
        sources = _sources(master, tiles, scenes, progress)
        trained = {name: _train(name, source, work / name, request, progress) for name, source in sources.items()}
        return trained, [_as_pair(tile) for tile in held]
    finally:
        pool.close()


def _sources(
    master: Master, tiles: Sequence[PairTile], firsts: Sequence[int], progress: Progress
) -> dict[str, PairSource]:
    """What each detector learns from."""
    from changen_cli.training.detection_pairs import ExchangedPairs, LabelledPairs, PastedPairs

    size = min(_CROP_PX, max(16, max(min(tile.change.shape) for tile in tiles) // 16 * 16))
    scenes = first_dates(tiles, firsts)
    sources: dict[str, PairSource] = {"ours": LabelledPairs(tiles, size)}
    sources["label_exchange"] = ExchangedPairs(scenes, size)
    try:
        sources["copy_paste"] = PastedPairs(scenes, size, movable_classes(master.schema))
    except UsageError as error:
        progress.note(f"no copy-paste to compare with: {error}")
    for source in sources.values():
        source.told["dataset"] = str(master.manifest.get("checksums"))
    return sources


def _train(name: str, source: PairSource, folder: Path, request: ProbeRequest, progress: Progress) -> ChangeDetector:
    from changen_cli.synthesis.detector import load_detector
    from changen_cli.training.detector import DetectorTask, new_detector
    from changen_cli.training.loop import LoopSettings, run

    total = request.pairs_seen
    settings = LoopSettings(
        max_images=total, batch_size=_BATCH, learning_rate=_RATE, warmup_images=total // 10, ema_decay=0.99,
        save_every=max(_BATCH, total // 4), validate_every=10 * total, seed=request.seed,
    )  # fmt: skip
    progress.stage(f"training on {name.replace('_', ' ')}")
    progress.total(total)
    model = new_detector("small", request.seed, init=request.init)
    task = DetectorTask(model, source, facts={"trained_on": source.told})
    try:
        run(task, settings, folder, resume=True, on_step=lambda step: progress.scene(step.images, step.images))
    except UsageError as error:
        raise UsageError(f"{folder} holds a detector of another probe", "Name another --detectors folder") from error
    return load_detector(folder)


def _as_pair(tile: PairTile) -> ImagePair:
    return ImagePair("", tile.group, tile.before, tile.after, tile.change == 1, tile.change <= 1)


def _tell(skipped: Sequence[Skip], progress: Progress) -> None:
    for skip in skipped[:5]:
        progress.note(f"skipped {skip.path}: {skip.reason}")


def _section(request: ProbeRequest, theirs: ImagePairs | None, scores: dict[str, ChangeScores]) -> dict[str, Any]:
    """Figures by name, as flat as people and the card read them."""
    where = "held-out places of the dataset itself"
    if theirs is not None and request.real is not None:
        where = f"{request.real.resolve().name} ({theirs.layout})"
    section: dict[str, Any] = {
        "tested_on": where,
        "tested_pairs": len(next(iter(scores.values())).counts),
        "pairs_seen": request.pairs_seen,
        "seed": request.seed,
        "init": request.init or "random weights",
    }
    found = {name: each.figures() for name, each in scores.items()}
    return section | {f"{key}_{name}": _rounded(found[name][key]) for key in _SHOWN for name in found}


def _rounded(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
