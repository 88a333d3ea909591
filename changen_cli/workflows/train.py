"""``changen train``: from folders of images to a model folder that ``--model`` takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from changen_cli.core.errors import UsageError
from changen_cli.core.files import atomic_path
from changen_cli.core.recipe_sections import Layout
from changen_cli.core.types import Skip
from changen_cli.workflows.setup import choose_compute

if TYPE_CHECKING:
    from changen_cli.sources.pseudo_masks import Proposer
    from changen_cli.training.loop import LoopSettings, Step, Task
    from changen_cli.training.tiles import TrainingTile

Stage = Literal["denoiser", "vae"]
Network = tuple[Any, Any, dict[str, Any]]
"""A denoiser, the autoencoder its latents come from or None, and what to store of both."""
PROPOSALS_FOLDER = "proposals"


@dataclass(frozen=True)
class TrainInput:
    """One folder to learn from.

    Attributes:
        path: Any folder ``changen generate`` reads, or one of images without masks.
        classes: Class names of its masks, in id order; None for xBD trees, binary masks, and images without masks.
        max_reduction: Crops may be reduced by up to this factor.
        layout: Layout of the folder; detected when None.
    """

    path: Path
    classes: tuple[str, ...] | None = None
    max_reduction: float = 1.5
    layout: Layout | None = None


@dataclass(frozen=True)
class TrainRequest:
    """Everything ``changen train`` can be told.

    Attributes:
        inputs: Folders to learn from.
        output: Model folder.
        stage: What is trained.
        size: Size of a denoiser or autoencoder.
        codec: Whether a denoiser works on pixels or on latents.
        init: Model to start from instead of random weights: name, path or Hub id.
        vae: Autoencoder of a denoiser of latents: path or Hub id.
        license: Licence of the weights, stored with them.
        crop_size: Side of a training crop in px.
        validation_share: Share of the tiles kept out, by place.
        loop: Settings of the training loop by name, see :class:`changen_cli.training.loop.LoopSettings`.
        resume: Continue from the checkpoint in the output folder.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``.
        threads: CPU threads of the network.
    """

    inputs: tuple[TrainInput, ...]
    output: Path
    stage: Stage = "denoiser"
    size: str = "mini"
    codec: Literal["pixel", "vae"] = "pixel"
    init: str | None = None
    vae: str | None = None
    license: str = ""
    crop_size: int = 128
    validation_share: float = 0.1
    loop: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None


class TrainProgress(Protocol):
    """Receives what a training run has to tell."""

    def note(self, text: str) -> None:
        """One line worth reading."""

    def step(self, step: Step, total: int) -> None:
        """After every optimiser step."""

    def figures(self, images: int, figures: Mapping[str, float]) -> None:
        """After every validation."""


def train_model(request: TrainRequest, progress: TrainProgress) -> Path:
    """Train what the request asks for.

    Returns:
        The model folder.

    Raises:
        UsageError: When options do not fit each other, the input or the checkpoint.
        ModelError: When a model cannot be read, or training diverges.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with the state saved.
    """
    from changen_cli.training.denoiser import check_crop_size
    from changen_cli.training.loop import LoopSettings, run
    from changen_cli.training.tiles import TilePool, split_by_place

    compute = choose_compute(request.device, request.dtype, request.threads)
    checkpoint = request.output / "checkpoint.pt"
    if checkpoint.exists() and not request.resume:
        raise UsageError(
            f"{request.output} holds a checkpoint", "Pass --resume to continue it, or choose another --output"
        )
    settings = LoopSettings(**({"dtype": compute.dtype} | dict(request.loop)))
    pool: TilePool[TrainingTile] = TilePool(request.output / f".tiles-{os.getpid()}")
    try:
        # The network before anything slow: options that do not fit should not cost a minute of reading.
        network = None
        if request.stage == "denoiser":
            network = _denoiser(request, settings.seed)
            check_crop_size(request.crop_size, *network[:2])
        _read(request, pool, _proposer(request, network), progress)
        tiles, held = split_by_place(pool.tiles(), request.validation_share, settings.seed)
        places = len({tile.group for tile in held})
        progress.note(
            f"{len(tiles)} tiles to learn from, {len(held)} of {places} places kept out for validation"
            if held
            else f"{len(tiles)} tiles to learn from; one place only, so none is kept out for validation"
        )
        task = make_task(request, network, tiles, held, settings)
        _keep_autoencoder(request)
        run(
            task,
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


def _read(request: TrainRequest, pool: Any, propose: Proposer | None, progress: TrainProgress) -> None:
    """Read all folders; what cannot be used is counted and named."""
    from changen_cli.training.tiles import load_tiles

    if propose is not None:
        progress.note(
            "the condition is contours of objects; in images without masks objects are proposed, a few seconds each, "
            f"and kept in {request.output / PROPOSALS_FOLDER}"
        )
    for item in request.inputs:
        count, skipped = load_tiles(
            item.path,
            item.classes,
            pool,
            layout=item.layout,
            max_reduction=item.max_reduction,
            propose=propose,
        )
        progress.note(f"{item.path}: {count} tiles{_skips(skipped)}")
        for skip in skipped[:5]:
            progress.note(f"  skipped {skip.path}: {skip.reason}")
    if pool.spilled:
        progress.note(f"{pool.spilled / 1e9:.1f} GB of tiles exceed the memory budget and are read from {pool.spill}")


def _proposer(request: TrainRequest, network: Network | None) -> Proposer | None:
    """What finds objects in images without masks, if the network is to learn from their contours."""
    from changen_cli.sources.pseudo_masks import propose_regions
    from changen_cli.synthesis.contours import CONTOUR
    from changen_cli.training.proposals import KeptProposals

    if network is None or CONTOUR not in network[0].config["classes"]:
        return None
    return KeptProposals(propose_regions, request.output / PROPOSALS_FOLDER, request.crop_size)


def _without_masks(request: TrainRequest) -> bool:
    """Whether no input has masks."""
    from changen_cli.sources.folder import open_source

    sources = (open_source(item.path, layout=item.layout, classes=item.classes) for item in request.inputs)
    return all(source.layout == "images" for source in sources)


def _skips(skipped: Sequence[Skip]) -> str:
    return f", {len(skipped)} skipped" if skipped else ""


def make_task(
    request: TrainRequest,
    network: Network | None,
    tiles: Sequence[TrainingTile],
    held: Sequence[TrainingTile],
    settings: LoopSettings,
) -> Task:
    """Bring networks and what they are trained on together.

    Args:
        request: What was asked for.
        network: The denoiser; None where an autoencoder is trained.
        tiles: What to learn from.
        held: Tiles of places kept out.
        settings: Settings of the loop.

    Raises:
        UsageError: When the stage, size and codec do not go together.
    """
    if network is None:
        from changen_cli.training.autoencoder import (
            AUTOENCODERS,
            AutoencoderSettings,
            AutoencoderTask,
            new_autoencoder,
        )

        if request.init or request.vae or request.codec == "vae":
            raise UsageError("--stage vae trains an autoencoder from nothing", "Leave out --init, --vae and --codec")
        vae = new_autoencoder(AUTOENCODERS["mini" if request.size == "mini" else "full"], settings.seed)
        # Adversarial from the half on: before that there is nothing worth judging.
        learned = AutoencoderSettings(crop_size=request.crop_size, discriminator_start=settings.max_images // 2)
        return AutoencoderTask(vae, tiles, held, learned, seed=settings.seed)
    from changen_cli.training.denoiser import DenoiserSettings, DenoiserTask

    model, latents, facts = network
    if request.license:
        model.register_to_config(license=request.license)
    options = DenoiserSettings(crop_size=request.crop_size)
    facts["trained_on"] = [item.path.name for item in request.inputs]
    return DenoiserTask(model, tiles, options, validation=held, vae=latents, facts=facts)


def _keep_autoencoder(request: TrainRequest) -> None:
    """Copy a local autoencoder into the model folder: latents are worth nothing without the one they come from."""
    from changen_cli.synthesis.hub import find_autoencoder

    if not request.vae:
        return
    files = find_autoencoder(request.vae)
    folder = request.output / "vae"
    if files.origin == "hub" or files.folder.resolve() == folder.resolve():
        return
    for name in files.names:
        with atomic_path(folder / Path(name).name) as partial:
            shutil.copyfile(files.folder / name, partial)


def _denoiser(request: TrainRequest, seed: int) -> Network:
    """The network to train, the autoencoder its latents come from, and what to store of both."""
    from changen_cli.training.sizes import new_denoiser
    from changen_cli.workflows.models import open_autoencoder, open_model

    if request.init:
        opened = open_model(request.init, request.vae)
        facts = {key: opened.record.facts[key] for key in ("autoencoder",) if key in opened.record.facts}
        return opened.denoiser, opened.autoencoder, facts | {"initial": opened.record.id}
    if request.codec == "pixel" and request.vae:
        raise UsageError("--vae goes with --codec vae", "Leave it out, or train on latents")
    if request.codec == "vae" and not request.vae:
        raise UsageError(
            "a denoiser of latents needs an autoencoder",
            "Give --vae, a folder made by changen train --stage vae or a Hub id",
        )
    # Nothing but the images themselves: what is known of them is where their objects end.
    of_contours = _without_masks(request)
    model = new_denoiser(request.size, request.codec, seed, of_contours=of_contours)  # type: ignore[arg-type]
    if not request.vae:
        return model, None, {}
    autoencoder, used = open_autoencoder(request.vae, model.config)
    return model, autoencoder, {"autoencoder": used}
