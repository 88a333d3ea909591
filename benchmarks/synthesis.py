"""What one denoising step costs against the plain path: every optimisation in turn, then windows around the change.

Usage: python benchmarks/synthesis.py [--sizes 256 512] [--threads 1] [--rounds 3] [--steps 20] [--compile]

The plain path is written below: the same weights run the way a first implementation would run them. It embeds the label
again at each step, forms the attention matrix, keeps float32 in NCHW order, normalises channels in elementary
operations, and always denoises the whole tile. Every ratio is taken within this run, from medians of alternating
rounds; with one thread they are of processor time, which other processes lengthen least. Add 1024 to the sizes for the
full table: its plain path takes up to a minute a step, and 10 GB.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from changen_cli.core.recipe import build_recipe
from changen_cli.core.types import Scene
from changen_cli.synthesis.blocks import LayerNorm2d
from changen_cli.synthesis.hybrid import HybridRSDiT
from changen_cli.synthesis.models import load_model
from changen_cli.synthesis.synthesiser import DateJob, Synthesiser
from changen_cli.synthesis.transformer import SIZES, RSDiT
from changen_cli.synthesis.windows import paste, plan_windows
from changen_cli.workflows.plans import Plan, open_labelled_source, simulate
from changen_cli.workflows.setup import (
    SAMPLE,
    build_library,
    choose_compute,
    load_pipeline,
    model_path,
    synthesis_settings,
)

TIMESTEP = 300


# The plain path.


def plain_norm2d(norm: nn.Module, x: Tensor) -> Tensor:
    """Layer normalisation over the channels of an NCHW tensor, in elementary operations."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + norm.eps)
    return norm.weight[:, None, None] * x + norm.bias[:, None, None]


def plain_embed(model: Any, label: Tensor) -> Tensor:
    """The label embedder, layer by layer."""
    layers = model.y_embedder if isinstance(model, HybridRSDiT) else model.y_embedder.convs
    x = label
    for layer in layers:
        x = plain_norm2d(layer, x) if isinstance(layer, LayerNorm2d) else layer(x)
    return x


def plain_attention(attn: Any, x: Tensor, fused: bool) -> Tensor:
    """Self-attention over ``[B, N, D]`` that forms the attention matrix, unless ``fused``."""
    batch, tokens, width = x.shape
    head = width // attn.num_heads
    query, key, value = attn.qkv(x).reshape(batch, tokens, 3, attn.num_heads, head).permute(2, 0, 3, 1, 4)
    if fused:
        out = F.scaled_dot_product_attention(query, key, value)
    else:
        out = (query @ key.transpose(-2, -1) * head**-0.5).softmax(dim=-1) @ value
    return attn.proj(out.transpose(1, 2).reshape(batch, tokens, width))


def plain_attend(block: Any, x: Tensor, fused: bool) -> Tensor:
    """Attention over a token grid, in windows filled up with zeros or globally."""
    batch, height, width, dim = x.shape
    size = block.window_size
    if not size:
        return plain_attention(block.attn, x.reshape(batch, -1, dim), fused).reshape(x.shape)
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    rows, cols = x.shape[1] // size, x.shape[2] // size
    x = x.reshape(batch, rows, size, cols, size, dim).transpose(2, 3).reshape(-1, size * size, dim)
    x = plain_attention(block.attn, x, fused).reshape(batch, rows, cols, size, size, dim).transpose(2, 3)
    return x.reshape(batch, rows * size, cols * size, dim)[:, :height, :width]


def plain_block(block: Any, x: Tensor, condition: Tensor, fused: bool) -> Tensor:
    """One RS-DiT block with its modulation computed from the condition."""
    shift1, scale1, gate1, shift2, scale2, gate2 = block.adaLN_modulation(condition).chunk(6, dim=-1)
    x = x + gate1 * plain_attend(block, block.norm1(x) * (1 + scale1) + shift1, fused)
    h = block.mlp.fc1(block.norm2(x) * (1 + scale2) + shift2)
    h = block.mlp.dwconv(h.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1).contiguous()
    return x + gate2 * block.mlp.fc2(F.gelu(h, approximate="tanh"))


def plain_residual(block: Any, x: Tensor, time_vector: Tensor) -> Tensor:
    """One residual block of the hybrid."""
    h = block.conv1(F.silu(plain_norm2d(block.norm1, x)))
    shift, scale = block.time(F.silu(time_vector))[:, :, None, None].chunk(2, dim=1)
    h = block.conv2(F.silu(plain_norm2d(block.norm2, h) * (1 + scale) + shift))
    return block.skip(x) + h


def plain_forward(
    model: Any, sample: Tensor, label: Tensor, condition: Tensor | None, embedding: Tensor | None, fused: bool
) -> Tensor:
    """One denoising step, plainly.

    Args:
        model: ``RSDiT`` or ``HybridRSDiT``, float32, NCHW weights.
        sample: Noised sample.
        label: Label planes.
        condition: Extra channels of the hybrid.
        embedding: The label's embedding; None embeds it again.
        fused: Whether attention may use the fused kernel.
    """
    label_grid = plain_embed(model, label) if embedding is None else embedding
    vector = model.t_embedder(torch.full((sample.shape[0],), TIMESTEP))
    if isinstance(model, RSDiT):
        x = model.x_embedder.proj(sample).permute(0, 2, 3, 1).contiguous()
        label_grid = F.interpolate(label_grid, size=x.shape[1:3], mode="nearest").permute(0, 2, 3, 1).contiguous()
        tokens = vector[:, None, None] + label_grid
        for block in model.blocks:
            x = plain_block(block, x, tokens, fused)
        last = model.final_layer
        shift, scale = last.adaLN_modulation(tokens).chunk(2, dim=-1)
        x = last.linear(last.norm_final(x) * (1 + scale) + shift)
        batch, rows, cols, _ = x.shape
        p = last.patch_size
        x = x.reshape(batch, rows, cols, p, p, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(batch, -1, rows * p, cols * p)
    x, skips = model.stem(torch.cat([sample, condition, label], dim=1)), []
    for level, down in zip(model.encoder, model.down, strict=True):
        for block in level:
            x = plain_residual(block, x, vector)
        skips.append(x)
        x = down(x)
    x = x.permute(0, 2, 3, 1).contiguous()
    tokens = vector[:, None, None] + label_grid.permute(0, 2, 3, 1).contiguous()
    for block in model.blocks:
        x = plain_block(block, x, tokens, fused)
    x = x.permute(0, 3, 1, 2).contiguous()
    for level, up, skip in zip(reversed(model.decoder), reversed(model.up), reversed(skips), strict=True):
        x = torch.cat([F.pixel_shuffle(up(x), 2), skip], dim=1)
        for block in level:
            x = plain_residual(block, x, vector)
    return model.head(torch.cat([F.silu(plain_norm2d(model.head_norm, x)), x, sample], dim=1))


# What is measured.


@dataclass(eq=False)
class Case:
    """One network with the inputs of a step, in all the forms that are compared."""

    name: str
    model: Any
    pixels_per_cell: int
    sample: Tensor
    label: Tensor
    condition: Tensor | None

    def crop(self, height: int, width: int) -> Case:
        """The same network on the tile's first pixels."""
        cell = self.pixels_per_cell
        condition = None if self.condition is None else self.condition[..., :height, :width].contiguous()
        sample = self.sample[..., : height // cell, : width // cell].contiguous()
        return Case(self.name, self.model, cell, sample, self.label[..., :height, :width].contiguous(), condition)

    def plain(self, *, once: bool = False, fused: bool = False) -> Callable[[], Tensor]:
        """A plain step; ``once`` takes the label's embedding as given."""
        model = copy.deepcopy(self.model).to(memory_format=torch.contiguous_format)
        with torch.inference_mode():
            embedding = plain_embed(model, self.label) if once else None
        return lambda: plain_forward(model, self.sample, self.label, self.condition, embedding, fused)

    def ours(self, dtype: torch.dtype, *, compiled: bool = False) -> Callable[[], Tensor]:
        """A step as the pipeline runs it, its label embedded before."""
        model = nn.Module.to(copy.deepcopy(self.model), dtype=dtype)
        with torch.inference_mode():
            label = self.label.to(dtype)
            embedding = model.embed_label(label)
            condition = None if self.condition is None else self.condition.to(dtype)
        run = torch.compile(model, dynamic=False) if compiled else model

        def step() -> Tensor:
            out = run(self.sample.to(dtype), TIMESTEP, label, label_embedding=embedding, condition=condition)
            return out.sample.float()

        return step

    def embedding(self, dtype: torch.dtype) -> Callable[[], Tensor]:
        """What happens once per image."""
        model, label = nn.Module.to(copy.deepcopy(self.model), dtype=dtype), self.label.to(dtype)
        return lambda: model.embed_label(label)


def seconds(function: Callable[[], Any]) -> float:
    """Time of one call: what it takes on an idle machine, also on a busy one as long as there is only one thread."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    function()
    return clock() - started


def medians(functions: dict[str, Callable[[], Any]], rounds: int, first: dict[str, float]) -> dict[str, float]:
    """Median time of each, in alternation: a busy moment strikes them all. ``first`` gets the first calls."""
    for name, function in functions.items():
        first[name] = seconds(function)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return {name: statistics.median(values) for name, values in times.items()}


def rsdit(size: str) -> RSDiT:
    """A published size; what starts at zero is drawn, or nothing would be computed that matters."""
    depth, width, heads = SIZES[size]
    torch.manual_seed(0)
    model = RSDiT(depth=depth, hidden_size=width, num_heads=heads)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model.to(memory_format=torch.channels_last).eval()


def build_cases(mini: str) -> tuple[list[Case], np.ndarray, float]:
    """Both networks on a simulated date of the bundled sample; also its change area and changed share."""
    recipe = build_recipe({"source": {"input": str(SAMPLE)}, "events": {"change_area": "8-10%"}})
    source = open_labelled_source(recipe)
    library = build_library(source)
    scene = next(item for item in source if isinstance(item, Scene))
    plan: Plan = simulate(scene, source.schema, recipe, 0, library)
    pipeline, _ = load_pipeline(recipe, choose_compute("cpu", "float32", torch.get_num_threads()))
    synthesiser = Synthesiser(pipeline, synthesis_settings(recipe), source.schema, library)
    series = plan.series
    job = DateJob(
        scene.image, series.masks[:2], series.instances[:2], series.events, scene.id, recipe.seed, (scene.id, 0, 1)
    )
    _, tasks = synthesiser._prepare(0, job)
    area = np.zeros((*scene.image.shape[:2], 1), np.float32)
    planes = np.zeros((*scene.image.shape[:2], len(tasks[0].planes)), np.float32)
    for task in tasks:
        paste(area, task.area[..., None].astype(np.float32), task.area.astype(np.float32), task.window.box)
    full = synthesiser.settings.__class__(extent="full")
    synthesiser.settings = full
    planes = synthesiser._prepare(0, job)[1][0].planes
    draw = torch.Generator().manual_seed(0)
    known = torch.from_numpy(scene.image.transpose(2, 0, 1).astype(np.float32))[None] / 127.5 - 1
    change = torch.from_numpy(area.transpose(2, 0, 1))[None]
    noised = 0.8 * known + 0.6 * torch.randn(known.shape, generator=draw)
    label = torch.from_numpy(planes)[None]
    hybrid = load_model(model_path(mini))
    building = torch.from_numpy((series.masks[1] == source.schema.building_ids[0]).astype(np.float32))[None, None]
    latent = torch.randn(1, 4, known.shape[2] // 8, known.shape[3] // 8, generator=draw)
    cases = [
        Case("S/2", rsdit("S"), 8, latent, building, None),
        Case(mini, hybrid, 1, noised, label, torch.cat([known * (1 - change), change], dim=1)),
    ]
    return cases, area[..., 0] > 0, float((series.masks[0] != series.masks[1]).mean())


def equal_extent(case: Case, size: int, rounds: int, compiled: bool, console: Console) -> None:
    """Every optimisation on top of the ones before it."""
    case = case.crop(size, size)
    stages = {
        "plain": case.plain(),
        "label embedded once per image": case.plain(once=True),
        "fused attention": case.plain(once=True, fused=True),
        "channels last, fused and shared memory": case.ours(torch.float32),
        "bfloat16": case.ours(torch.bfloat16),
    }
    if compiled:
        stages["torch.compile"] = case.ours(torch.bfloat16, compiled=True)
    first: dict[str, float] = {}
    times = medians(stages, rounds, first)
    reference = stages["plain"]()
    table = Table(title=f"{case.name}, {size}², one step, {torch.get_num_threads()} thread(s)")
    for column in ("on top of the row before", "s", "ratio", "max |difference|", "relative rms"):
        table.add_column(column, justify="left" if column.startswith("on") else "right")
    for name, function in stages.items():
        error = function() - reference
        rms = (error.square().mean() / reference.square().mean()).sqrt()
        shown = name + (f" (first call {first[name]:.0f} s)" if name == "torch.compile" else "")
        cells = (f"{times[name]:.3f}", f"{times['plain'] / times[name]:.2f}", f"{error.abs().max():.1e}", f"{rms:.1e}")
        table.add_row(shown, *cells)
    console.print(table)


def windows_against_tile(case: Case, area: np.ndarray, changed: float, steps: int, rounds: int, out: Console) -> None:
    """The windows of one date against the plain path on its whole tile."""
    tokens = case.model.size_multiple * case.pixels_per_cell
    windows = plan_windows(area, multiple=tokens * int(case.model.config["window_size"]))
    shapes = Counter(window.own.shape for window in windows)
    functions: dict[str, Callable[[], Any]] = {"plain": case.plain()}
    for shape in shapes:
        part = case.crop(*shape)
        for dtype in (torch.float32, torch.bfloat16):
            functions[f"{shape} {dtype}"] = part.ours(dtype)
            functions[f"{shape} {dtype} label"] = part.embedding(dtype)
    times = medians(functions, rounds, {})
    table = Table(title=f"{case.name}, windows around {changed:.1%} changed against the plain tile, {steps} steps")
    for column in ("windows", "denoised", "plain s", "float32 s", "ratio", "bfloat16 s", "ratio"):
        table.add_column(column, justify="right")
    denoised = sum(window.own.size for window in windows) / area.size
    cells = [str(len(windows)), f"{denoised:.0%}", f"{steps * times['plain']:.1f}"]
    for dtype in (torch.float32, torch.bfloat16):
        needed = sum(
            count * (steps * times[f"{shape} {dtype}"] + times[f"{shape} {dtype} label"])
            for shape, count in shapes.items()
        )
        cells += [f"{needed:.1f}", f"{steps * times['plain'] / needed:.1f}"]
    table.add_row(*cells)
    out.print(table)


def on_gpu(steps: int, console: Console, batch: int = 8) -> None:
    """Images a second at 1024², and the share of what the device reaches in one large matrix product."""
    from torch.utils.flop_counter import FlopCounterMode

    def timed(function: Callable[[], Any], repetitions: int = 10) -> float:
        for _ in range(3):
            function()
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(repetitions):
            function()
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / repetitions

    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    peak = 2 * 8192**3 / timed(lambda: square @ square)
    table = Table(title=f"{torch.cuda.get_device_name()}, bfloat16, batch {batch}, {steps} steps of 1024²")
    for column in ("model", "compiled", "step s", "images/s", "TFLOP/s", "share of a matrix product's"):
        table.add_column(column, justify="right")
    for size in ("S", "B"):
        model = nn.Module.to(rsdit(size), device="cuda", dtype=torch.bfloat16)
        latent = torch.randn(batch, 4, 128, 128, device="cuda", dtype=torch.bfloat16)
        label = (torch.rand(batch, 1, 1024, 1024, device="cuda") > 0.7).bfloat16()
        embedding = model.embed_label(label)
        embed_s = timed(lambda model=model, label=label: model.embed_label(label), 3)
        with FlopCounterMode(display=False) as counter:
            model(latent, TIMESTEP, label_embedding=embedding)
        for compiled in (False, True):
            run = torch.compile(model, dynamic=False) if compiled else model
            step_s = timed(lambda run=run, x=latent, y=embedding: run(x, TIMESTEP, label_embedding=y))
            rate = counter.get_total_flops() / step_s
            images = batch / (steps * step_s + embed_s)
            cells = (f"{step_s:.4f}", f"{images:.2f}", f"{rate / 1e12:.0f}", f"{rate / peak:.0%}")
            table.add_row(f"{size}/2", "yes" if compiled else "no", *cells)
    console.print(table)


def main() -> None:
    """Parse the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512])
    parser.add_argument("--models", nargs="*", default=["S/2", "changen-mini"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="also torch.compile")
    parser.add_argument("--skip-tile", action="store_true", help="leave out windows against the plain 1024² tile")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=110)
    console.print(f"torch {torch.__version__}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}")
    with torch.inference_mode():
        if torch.cuda.is_available():
            on_gpu(options.steps, console)
        cases, area, changed = build_cases("changen-mini")
        for case in [case for case in cases if case.name in options.models]:
            for size in options.sizes:
                equal_extent(case, size, options.rounds, options.compile, console)
            if not options.skip_tile:
                windows_against_tile(case, area, changed, options.steps, options.rounds, console)


if __name__ == "__main__":
    main()
