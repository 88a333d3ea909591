"""From simulated masks to images: starts, windows, denoising in batches, and the way back into the tile."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from changen_cli.core.damage import DAMAGE_STATES
from changen_cli.core.errors import BrokenImageError
from changen_cli.core.landcover import class_number
from changen_cli.core.seeding import derive_rng, derive_seed
from changen_cli.core.types import BoolArray, ChangeEvent, ClassSchema, Exemplar, Int32Array, Texture, UInt8Array
from changen_cli.synthesis.contours import CONTOUR, contours
from changen_cli.synthesis.exemplars import MARGIN_PX, ExemplarStart
from changen_cli.synthesis.grain import match_grain
from changen_cli.synthesis.pipeline import ChangenPipeline
from changen_cli.synthesis.windows import Window, crop, full_window, paste, plan_windows, soft_alpha

FloatArray = npt.NDArray[np.float32]
logger = logging.getLogger(__name__)

# One forward pass always has the same shape for a window of a given size: results must not depend on what else is in
# the batch, and kernels round differently for different batch sizes. A CPU gains nothing from larger ones.
_FORWARD_PIXELS = {"cpu": 0, "cuda": 16 * 256 * 256}


@dataclass(frozen=True)
class SynthesisSettings:
    """How the next date is drawn.

    Attributes:
        start: ``"exemplar"`` or ``"noise"``.
        strength: Noise level of an exemplar start, share of the timesteps in [0, 1]; 0 leaves it as it is.
        inference_steps: Steps of the full schedule; an exemplar start runs ``strength`` of them.
        guidance_ratio: λ in [0, 1], see :class:`~changen_cli.synthesis.pipeline.ChangenPipeline`.
        guidance_scale: Strength of classifier-free guidance; 1 leaves it out.
        extent: ``"windows"`` around the change, or the ``"full"`` tile.
    """

    start: Literal["exemplar", "noise"] = "exemplar"
    strength: float = 0.1
    inference_steps: int = 10
    guidance_ratio: float = 1.0
    guidance_scale: float = 1.0
    extent: Literal["windows", "full"] = "windows"

    @property
    def needs_model(self) -> bool:
        """Whether anything is denoised at all."""
        return self.start == "noise" or self.strength > 0


@dataclass(frozen=True, eq=False)
class DateJob:
    """One date to synthesise.

    Attributes:
        image: uint8 ``[H, W, 3]``, I_t.
        masks: uint8 ``[2, H, W]``, S_t and S_{t+1}.
        instances: int32 ``[2, H, W]``, objects of date t and of date t+1.
        events: The step's events.
        scene_id: For colours and messages.
        seed: Recipe seed, and the names this date's draws derive from.
        names: Scene id, variant and date.
    """

    image: UInt8Array
    masks: UInt8Array
    instances: Int32Array
    events: Sequence[ChangeEvent]
    scene_id: str
    seed: int
    names: tuple[str | int, ...]


@dataclass(eq=False)
class _Task:
    """One window waiting for its forward passes."""

    job: int
    window: Window
    image: FloatArray
    start: FloatArray
    planes: FloatArray
    area: BoolArray
    seed: int


def label_planes(
    mask: UInt8Array, schema: ClassSchema, model_config: Any, objects: Int32Array | None = None
) -> FloatArray:
    """Translate a semantic mask into the planes a denoiser was trained on, matching classes by what they are called.

    Class-agnostic proposals say nothing of what lies there: they are the null label, unless the model was trained
    on them, or on the contours of objects.

    Args:
        mask: uint8 ``[H, W]``, ids of ``schema``.
        schema: The mask's classes.
        model_config: The denoiser's configuration: ``classes`` and ``unknown_plane``.
        objects: int32 ``[H, W]``, object numbers of the same date, for models whose classes name contours.

    Returns:
        float32 ``[K, H, W]`` in {0, 1}.
    """
    names = [name.lower() for name in model_config["classes"]]
    numbers = [class_number(name, names) for name in schema.names]
    whole = next((names.index(name) for name in ("building", DAMAGE_STATES[0]) if name in names), None)
    for index in () if schema.class_agnostic else schema.building_ids:
        state = schema.names[index].lower()
        if state in DAMAGE_STATES and state in names:
            continue
        # Who does not know what a destroyed building is must not be told that a building stands there.
        numbers[index] = None if index in schema.damage_ids[-1:] else numbers[index] if whole is None else whole
    planes = [np.isin(mask, [i for i, number in enumerate(numbers) if number == plane]) for plane in range(len(names))]
    if model_config["unknown_plane"]:
        # Labelled, but none of the model's classes. Pixels without a label have no plane: the null label.
        unlabelled = np.isin(mask, (schema.ignore_index, *schema.unknown_ids)) | schema.class_agnostic
        planes.append(~unlabelled & ~np.any(planes, axis=0))
    if CONTOUR in names and objects is not None:
        planes[names.index(CONTOUR)] = contours(objects)
    return np.stack(planes).astype(np.float32)


def knows_damage(pipeline: ChangenPipeline | None) -> bool:
    """Whether a model was told minor, major and total damage apart when it was trained."""
    names = pipeline.transformer.config["classes"] if pipeline is not None else ()
    return {name.lower() for name in names}.issuperset(DAMAGE_STATES[1:])


class Synthesiser:
    """Draws the images of next dates with one model.

    Args:
        pipeline: Model and scheduler; None for an exemplar start of strength 0, which needs none.
        settings: How to draw.
        schema: Classes of the masks.
        library: Exemplars, for colour matching between scenes.
        textures: Pieces of scenes, for regions that become a class their tile shows too little of.
    """

    def __init__(
        self,
        pipeline: ChangenPipeline | None,
        settings: SynthesisSettings,
        schema: ClassSchema,
        library: Sequence[Exemplar] = (),
        textures: Sequence[Texture] = (),
    ) -> None:
        self.pipeline, self.settings, self.schema = pipeline, settings, schema
        self.exemplars = ExemplarStart(library, textures, draws_damage=knows_damage(pipeline))
        self._halvings: dict[tuple[int, ...], int] = defaultdict(int)  # of the batch, by the windows' shape
        if pipeline is not None:
            pipeline.set_progress_bar_config(disable=True)

    def next_dates(
        self, jobs: Sequence[DateJob], on_window: Callable[[int, int], None] = lambda done, total: None
    ) -> list[UInt8Array]:
        """Draw the next date of every job; windows of all jobs are pooled.

        Args:
            jobs: Dates to draw. The result for one does not depend on the others.
            on_window: Called with windows done and windows in all.

        Returns:
            uint8 ``[H, W, 3]`` for every job.

        Raises:
            BrokenImageError: When the model gives NaN or infinity for one of them.
        """
        canvases, tasks = [], []
        for number, job in enumerate(jobs):
            canvas, found = self._prepare(number, job)
            canvases.append(canvas)
            tasks += found
        groups: dict[tuple[int, ...], list[_Task]] = defaultdict(list)
        for task in tasks:
            groups[task.area.shape].append(task)
        patches: dict[int, FloatArray] = {}
        for shape, group in groups.items():
            size = self._forward_batch(shape)
            for first in range(0, len(group), size):
                chunk = group[first : first + size]
                patches |= {id(task): patch for task, patch in zip(chunk, self._denoise(chunk), strict=True)}
                on_window(len(patches), len(tasks))
        # In the order of the windows, not of the batches: windows may overlap.
        for task in tasks:
            self._paste(canvases[task.job], jobs[task.job], task, patches[id(task)])
        for canvas, job in zip(canvases, jobs, strict=True):
            if not np.isfinite(canvas).all():
                raise BrokenImageError(f"{job.scene_id}: the model gives values that are no numbers")
        return [np.clip(np.rint(canvas), 0, 255).astype(np.uint8) for canvas in canvases]

    def measure(self, job: DateJob) -> tuple[int, list[int], float]:
        """Time one window of a date, after a first one that warms up.

        Returns:
            Windows of the date, their pixels (the timed one first), and the seconds it took.
        """
        _, tasks = self._prepare(0, job)
        tasks.sort(key=lambda task: -task.area.size)
        pixels = [task.area.size for task in tasks]
        if not tasks:
            return 0, [], 0.0
        self._denoise(tasks[:1])
        started = time.perf_counter()
        self._denoise(tasks[:1])
        return len(tasks), pixels, (time.perf_counter() - started) / self._forward_batch(tasks[0].area.shape)

    def _prepare(self, number: int, job: DateJob) -> tuple[FloatArray, list[_Task]]:
        """Draw the start of one date and cut its windows; returns the tile they are pasted back into."""
        before, after = job.masks
        changed = before != after
        if not changed.any():
            return job.image.astype(np.float32), []
        area = ndimage.binary_dilation(changed, iterations=MARGIN_PX)
        canvas = start = job.image.astype(np.float32)
        if self.settings.start == "exemplar":
            rng = derive_rng(job.seed, *job.names, "exemplar")
            start, touched = self.exemplars.start(
                job.image, job.masks, job.instances[0], job.events, self.schema, job.scene_id, rng
            )
            area |= ndimage.binary_dilation(touched, iterations=2)
            canvas = start.copy()
        if self.pipeline is None or not self.settings.needs_model:
            return canvas, []
        multiple = self._window_multiple(self.pipeline)
        plan = plan_windows if self.settings.extent == "windows" else full_window
        windows = plan(area, multiple=multiple)
        planes = label_planes(after, self.schema, self.pipeline.transformer.config, job.instances[1])
        tasks = [
            _Task(
                job=number,
                window=window,
                image=crop(job.image, window.box).astype(np.float32),
                start=crop(start, window.box),
                planes=crop(planes.transpose(1, 2, 0), window.box).transpose(2, 0, 1),
                area=crop(area, window.box),
                seed=derive_seed(job.seed, *job.names, "window", index),
            )
            for index, window in enumerate(windows)
        ]
        return canvas, tasks

    def _forward_batch(self, shape: tuple[int, ...]) -> int:
        """Windows of one shape per forward pass; a constant of the shape and the device type while memory suffices."""
        budget = _FORWARD_PIXELS.get(self.pipeline.device.type, 0) if self.pipeline else 0
        return max(1, budget // (shape[0] * shape[1]) >> self._halvings[shape])

    @staticmethod
    def _window_multiple(pipeline: ChangenPipeline) -> int:
        """Pixels along half an attention window.

        Whole ones would attend no padding, but cost a tenth more pixels and measure no better.
        """
        model = pipeline.transformer
        tokens = model.size_multiple * (1 if pipeline.vae is None else 8)
        return int(tokens * max(1, model.config["window_size"] // 2))

    def _denoise(self, chunk: list[_Task]) -> list[FloatArray]:
        """Denoise windows of one shape; when the device runs out of memory, with half as many per forward pass.

        The batch stays halved for windows of this shape until the end of the run. Kernels may round differently for
        another batch size, so from there on these windows may differ in the last bits from a run that had more memory;
        runs in which it sufficed, or fell short at the same batch size from the start, give equal bytes.

        Raises:
            torch.cuda.OutOfMemoryError: When the memory does not suffice for a single window.
        """
        shape = chunk[0].area.shape
        patches: list[FloatArray] = []
        while len(patches) < len(chunk):
            size = self._forward_batch(shape)
            try:
                patches += self._forward(chunk[len(patches) : len(patches) + size], size)
                continue
            except torch.cuda.OutOfMemoryError:
                if size == 1:
                    raise
            # Only here has the failed pass let go of its tensors.
            self._halvings[shape] += 1
            torch.cuda.empty_cache()
            logger.warning("out of memory: %d instead of %d windows of %d x %d at once", size // 2, size, *shape)
        return patches

    def _forward(self, chunk: list[_Task], size: int) -> list[FloatArray]:
        """Run the pipeline on at most ``size`` windows of one shape, filled up to ``size`` with copies of the last."""
        filled = chunk + [chunk[-1]] * (size - len(chunk))
        assert self.pipeline is not None  # windows are planned only when there is a model to denoise them
        device = self.pipeline.device

        def tensor(arrays: list[Any]) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(np.stack(arrays), dtype=np.float32)).to(device)

        exemplar = self.settings.start == "exemplar"
        result = self.pipeline(
            image=tensor([task.image.transpose(2, 0, 1) for task in filled]) / 127.5 - 1,
            semantic_mask=tensor([task.planes for task in filled]),
            change_mask=tensor([task.area[None] for task in filled]),
            start=tensor([task.start.transpose(2, 0, 1) for task in filled]) / 127.5 - 1 if exemplar else None,
            strength=self.settings.strength if exemplar else 1.0,
            num_inference_steps=self.settings.inference_steps,
            guidance_ratio=self.settings.guidance_ratio,
            guidance_scale=self.settings.guidance_scale,
            generator=[torch.Generator(device).manual_seed(task.seed) for task in filled],
        )
        patches = ((result.images[: len(chunk)] + 1) * 127.5).permute(0, 2, 3, 1).cpu().numpy()
        return [
            match_grain(patch, task.image, task.start if exemplar else None, task.area)
            for patch, task in zip(patches, chunk, strict=True)
        ]

    def _paste(self, canvas: FloatArray, job: DateJob, task: _Task, patch: FloatArray) -> None:
        """Blend one denoised window into its tile.

        The unchanged surroundings stay untouched unless they were let drift (λ < 1): then the whole window is taken,
        down to a soft border.
        """
        core = crop(job.masks[0] != job.masks[1], task.window.box, fill=0)
        own = task.window.own
        if self.settings.guidance_ratio < 1:
            others = task.area & ~own
            own = np.zeros(own.shape, dtype=bool)
            own[4:-4, 4:-4] = True
            own &= ~others
        paste(canvas, patch, soft_alpha(own, core), task.window.box)
