"""What comes before any new image: scenes are read and their masks simulated, ahead, on a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from changen_cli.core.errors import ChangenError, UsageError
from changen_cli.core.recipe import Recipe
from changen_cli.core.seeding import derive_rng
from changen_cli.core.types import ClassSchema, EventKind, Exemplar, MaskSeries, Scene, Skip, Texture
from changen_cli.workflows.setup import make_proposer, own_exemplars

if TYPE_CHECKING:
    from changen_cli.events import Transitions
    from changen_cli.sources.folder import Source

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Plan:
    """A sample whose masks exist and whose images do not yet."""

    id: str
    scene: Scene
    variant: int
    series: MaskSeries
    negative: bool


def open_labelled_source(recipe: Recipe) -> Source:
    """Open the source of a recipe; images without masks get class-agnostic proposals.

    Raises:
        UsageError: When the folder cannot be read as asked, holds images without masks and proposals are not wanted, or
            no class is a building.
        ModelError: When the model that makes the proposals cannot be loaded.
    """
    from changen_cli.sources.folder import open_source

    section = recipe.source
    source = open_source(
        Path(section.input),
        layout=section.layout,
        classes=section.classes,
        res=section.res,
        upsample=section.upsample,
        bands=section.bands,
    )
    if source.layout == "images":
        if section.proposals == "none":
            raise UsageError(
                f"{section.input} holds images without masks, and --proposals none finds no objects in them",
                "Put masks of the same names into a folder masks/ or labels/ beside images/, or drop --proposals",
            )
        if section.classes is not None:
            raise UsageError(
                f"--classes names the classes of masks, and {section.input} has none", "Drop --classes, or add masks"
            )
        if recipe.events.transitions is not None:
            raise UsageError(
                f"{section.input} holds images without masks: nobody knows what becomes what",
                "Leave transition out of --events, or add masks",
            )
        return source.proposing(make_proposer(recipe))
    if section.proposals in ("regions", "sam"):
        raise UsageError(
            f"{section.input} has masks; proposals are for images without", "Drop --proposals, or pass --layout images"
        )
    shown = ",".join(source.schema.names)
    if source.schema.building_id is None and set(event_kinds(recipe, source.schema)) != {"transition"}:
        raise UsageError(
            f"--classes {shown} has no building class",
            "Buildings are what is created and removed: name one class building, or use --events transition",
        )
    matrix(recipe, source.schema)  # a name that means nothing should be told before anything is read
    return source


def event_kinds(recipe: Recipe, schema: ClassSchema) -> tuple[EventKind, ...]:
    """What may happen: as asked, else all kinds.

    Proposals are only removed, as in Changen2's self-supervised mode: nobody knows what a region is, and a copy of it
    elsewhere need not look like anything.
    """
    return recipe.events.kinds or (("remove",) if schema.class_agnostic else ("create", "remove"))


def needs_exemplars(recipe: Recipe, schema: ClassSchema) -> bool:
    """Whether anything new may stand in later dates: a creation, a moved object, ground that becomes a building."""
    return not {"create", "swap", "transition"}.isdisjoint(event_kinds(recipe, schema))


def matrix(recipe: Recipe, schema: ClassSchema) -> Transitions | None:
    """The recipe's transitions between the classes of the masks; None when there are to be none.

    Raises:
        UsageError: When none of them can happen between these classes, or a class is not known.
    """
    from changen_cli.events import resolve_transitions

    table = recipe.events.transitions
    return None if table is None else resolve_transitions(table, schema)


def simulate(
    scene: Scene,
    schema: ClassSchema,
    recipe: Recipe,
    variant: int,
    library: list[Exemplar],
    textures: Sequence[Texture] = (),
) -> Plan:
    """Simulate the masks of one sample; draws depend on (seed, scene id, variant, date) only."""
    from changen_cli.events import EventRules, simulate_series, unlikely_ground

    events = recipe.events
    rules = EventRules(
        schema,
        event_kinds(recipe, schema),
        events.change_area,
        events.min_area_px,
        transitions=matrix(recipe, schema),
        drawable=frozenset(drawable_anywhere(recipe, schema, textures)),
    )
    negative = bool(derive_rng(recipe.seed, scene.id, variant, "negative").random() < events.negatives)
    series = simulate_series(
        scene,
        rules,
        steps=events.steps,
        library=library,
        rng_for_step=lambda step: derive_rng(recipe.seed, scene.id, variant, step, "events"),
        negative=negative,
        avoid=unlikely_ground(scene, schema),
    )
    return Plan(f"{scene.id}_v{variant:02d}", scene, variant, series, negative)


def drawable_anywhere(recipe: Recipe, schema: ClassSchema, textures: Sequence[Texture]) -> set[int]:
    """Classes that can be drawn in tiles that show none of them: those of the textures, and all from pure noise."""
    if recipe.synthesis.start == "noise":
        return set(range(len(schema.names)))
    return {texture.class_id for texture in textures}


def plan_samples(
    source: Source, recipe: Recipe, library: list[Exemplar], textures: Sequence[Texture] = ()
) -> Iterator[Plan | Skip]:
    """Read scenes and simulate their samples, lazily and in the source's order."""
    used = 0
    builds = needs_exemplars(recipe, source.schema)
    for item in source:
        if isinstance(item, Skip):
            yield item
            continue
        known = library + own_exemplars(item, source.schema, library) if builds else library
        for variant in range(recipe.variants):
            try:
                yield simulate(item, source.schema, recipe, variant, known, textures)
            except ChangenError as error:
                yield Skip(item.source_path, str(error))
                break
        used += 1
        if recipe.limit is not None and used >= recipe.limit:
            return


def read_ahead(items: Iterator[Item], depth: int) -> Generator[Item, None, None]:
    """Run an iterator on another thread, at most ``depth`` items ahead; its errors surface here."""
    ahead: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stop.is_set():
            try:
                return ahead.put((kind, value), timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if stop.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ahead.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join(timeout=5)
