"""What comes before any new image: scenes are read and their masks simulated, ahead, on a thread of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from changen_cli.core.errors import ChangenError, UsageError
from changen_cli.core.recipe import Recipe
from changen_cli.core.seeding import derive_rng, derive_seed
from changen_cli.core.types import (
    BoolArray,
    ClassSchema,
    EventKind,
    Exemplar,
    MaskSeries,
    Scene,
    Skip,
    Texture,
    TimeSeries,
    UInt8Array,
)
from changen_cli.workflows.inputs import source_root
from changen_cli.workflows.setup import build_stock, make_proposer, own_exemplars
from changen_cli.workflows.shards import Border, Finished, Item, Opened

if TYPE_CHECKING:
    from changen_cli.events import Damage, Demography, Transitions
    from changen_cli.sources.folder import Source


@dataclass(frozen=True, eq=False)
class Plan:
    """A sample whose masks exist and whose images do not yet.

    Attributes:
        scene: Date 0.
        variant: The k-th sample of the scene.
        series: Its masks and events.
        negative: Whether nothing was to change.
        rejected: Why the attempts before this one were rejected.
        settled: It is kept whatever anybody finds: it was before.
    """

    scene: Scene
    variant: int
    series: MaskSeries
    negative: bool
    rejected: tuple[str, ...] = ()
    settled: bool = False

    @property
    def attempt(self) -> int:
        """Which attempt at the sample this is, from 0."""
        return len(self.rejected)

    @property
    def id(self) -> str:
        """The sample's id."""
        return sample_id(self.scene, self.variant)


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
        source_root(recipe),
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
        if recipe.events.disaster is not None:
            raise UsageError(
                f"{section.input} holds images without masks: nobody knows what is a building",
                "Leave damage out of --events, or add masks",
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
            "Buildings are what is created, removed and damaged: name one class building, or use --events transition",
        )
    if recipe.events.disaster is not None:
        try:
            source = source.with_damage()
        except ValueError as error:
            raise UsageError(f"--events damage adds three classes: {error}", "Name fewer --classes") from error
    surfaces(recipe, source.schema)
    matrix(recipe, source.schema)  # a name that means nothing should be told before anything is read
    return source


def event_kinds(recipe: Recipe, schema: ClassSchema) -> tuple[EventKind, ...]:
    """What may happen: as asked, else all kinds.

    Proposals are only removed, as in Changen2's self-supervised mode: nobody knows what a region is, and a copy of it
    elsewhere need not look like anything.
    """
    return recipe.events.kinds or (("remove",) if schema.class_agnostic else ("create", "remove"))


def needs_exemplars(recipe: Recipe, schema: ClassSchema) -> bool:
    """Whether anything new may stand in later dates: a creation, a moved object, an annex, ground that is built on."""
    return not {"create", "swap", "grow", "alter", "transition"}.isdisjoint(event_kinds(recipe, schema))


def needs_textures(recipe: Recipe, schema: ClassSchema) -> bool:
    """Whether ground may become another class: by the matrix, or as a building site."""
    return not {"grow", "transition"}.isdisjoint(event_kinds(recipe, schema))


def gather(
    recipe: Recipe, source: Source, images: dict[str, str] | None = None
) -> tuple[list[Exemplar], list[Texture]]:
    """Exemplars and textures a recipe needs; empty where it needs none.

    Args:
        recipe: The recipe.
        source: The scenes.
        images: As of :func:`~changen_cli.workflows.setup.build_stock`.
    """
    objects, textures = needs_exemplars(recipe, source.schema), needs_textures(recipe, source.schema)
    return build_stock(source, objects=objects, textures=textures, images=images)


def known_objects(scene: Scene, schema: ClassSchema, recipe: Recipe, library: list[Exemplar]) -> list[Exemplar]:
    """The library, and a scene's own exemplars where it does not hold them."""
    return library + own_exemplars(scene, schema, library) if needs_exemplars(recipe, schema) else library


def matrix(recipe: Recipe, schema: ClassSchema) -> Transitions | None:
    """The recipe's transitions between the classes of the masks; None when there are to be none.

    Raises:
        UsageError: When none of them can happen between these classes, or a class is not known.
    """
    from changen_cli.events import resolve_transitions

    table = recipe.events.transitions
    return None if table is None else resolve_transitions(table, schema)


def disaster(recipe: Recipe, label_safe: bool) -> Damage | None:
    """The recipe's disaster; None when nothing is to be damaged."""
    from changen_cli.events import Damage

    events = recipe.events
    return None if events.disaster is None else Damage(events.disaster, events.rebuild, label_safe)


def surfaces(recipe: Recipe, schema: ClassSchema) -> frozenset[int]:
    """The classes the recipe lets buildings stand on; empty when all ground may be built on.

    Raises:
        UsageError: One is no class of the masks, or nothing may ever stand on it.
    """
    ids = []
    for name in recipe.events.surfaces or ():
        if name not in schema.names:
            raise UsageError(f"--surfaces: the masks have no class {name}", f"Classes: {', '.join(schema.names)}")
        ids.append(schema.names.index(name))
        if ids[-1] not in schema.ground_ids:
            raise UsageError(f"--surfaces: nothing is built on {name}", "Name free ground, such as land or vegetation")
    return frozenset(ids)


def demography(recipe: Recipe) -> Demography | None:
    """The recipe's yearly rates; None when there are none."""
    from changen_cli.core.calendar import years_between
    from changen_cli.events import Demography

    events = recipe.events
    return Demography(events.rates, years_between(events.dates)) if events.rates and events.dates else None


def simulate(
    scene: Scene,
    schema: ClassSchema,
    recipe: Recipe,
    variant: int,
    library: list[Exemplar],
    textures: Sequence[Texture] = (),
    label_safe: bool = False,
    rejected: tuple[str, ...] = (),
) -> Plan:
    """Simulate the masks of one sample; draws depend on (seed, scene id, variant, attempt, date) only.

    Args:
        scene: Date 0.
        schema: Its classes.
        recipe: What may happen.
        variant: The k-th sample of the scene.
        library: Exemplars to create objects from.
        textures: Pieces of other scenes.
        label_safe: Of the states of damage only destroyed can be drawn.
        rejected: Why the attempts before this one were rejected; how many there were decides the draws.
    """
    from changen_cli.events import EventRules, simulate_series

    events = recipe.events
    rules = EventRules(
        schema,
        event_kinds(recipe, schema),
        events.change_area,
        events.min_area_px,
        transitions=matrix(recipe, schema),
        damage=disaster(recipe, label_safe),
        drawable=frozenset(drawable_anywhere(recipe, schema, textures)),
        demography=demography(recipe),
        surfaces=surfaces(recipe, schema),
    )
    seed = attempt_seed(recipe, scene, variant, len(rejected))
    # Not drawn again: else rejected samples would become such in which nothing changes, and pass.
    negative = bool(derive_rng(recipe.seed, scene.id, variant, "negative").random() < events.negatives)
    series = simulate_series(
        scene,
        rules,
        steps=events.steps,
        library=library,
        rng_for_step=lambda step: derive_rng(seed, scene.id, variant, step, "events"),
        negative=negative,
        avoid=_avoided(scene, schema),
    )
    return Plan(scene, variant, series, negative, rejected)


def attempt_seed(recipe: Recipe, scene: Scene, variant: int, attempt: int) -> int:
    """The seed of events and images of an attempt at a sample; that of the recipe for the first."""
    return derive_seed(recipe.seed, scene.id, variant, "attempt", attempt) if attempt else recipe.seed


@lru_cache(maxsize=1)
def _avoided(scene: Scene, schema: ClassSchema) -> BoolArray | None:
    """Ground nothing is built on; the variants of a scene share it."""
    from changen_cli.events import unlikely_ground

    return unlikely_ground(scene, schema)


def drawable_anywhere(recipe: Recipe, schema: ClassSchema, textures: Sequence[Texture]) -> set[int]:
    """Classes that can be drawn in tiles that show none of them: those of the textures, and all from pure noise."""
    if recipe.synthesis.start == "noise":
        return set(range(len(schema.names)))
    return {texture.class_id for texture in textures}


def as_sample(
    plan: Plan, recipe: Recipe, images: UInt8Array | None = None, info: Mapping[str, Any] | None = None
) -> TimeSeries:
    """Assemble a sample of a plan.

    Args:
        plan: Its masks and events.
        recipe: What was asked for.
        images: uint8 ``[T, H, W, 3]``, or None where only masks are made.
        info: Further columns of its metadata.
    """
    return TimeSeries(
        id=plan.id,
        scene=plan.scene,
        variant=plan.variant,
        seed=recipe.seed,
        images=images,
        masks=plan.series.masks,
        instances=plan.series.instances,
        objects=plan.series.objects,
        events=plan.series.events,
        reports=plan.series.reports,
        calendar=recipe.events.dates or (),
        info={"negative": plan.negative, **(info or {})},
    )


def plan_samples(
    items: Iterable[Item],
    source: Source,
    recipe: Recipe,
    library: list[Exemplar],
    textures: Sequence[Texture] = (),
    label_safe: bool = False,
    made: Collection[str] = (),
) -> Iterator[Work]:
    """Simulate the samples of scenes, lazily and in their order; arguments as of :func:`simulate`.

    Args:
        items: Scenes, and what else stands between them, which is passed on.
        source: Where they are from.
        recipe: What may happen.
        library: Exemplars to create objects from.
        textures: Pieces of other scenes.
        label_safe: Of the states of damage only destroyed can be drawn.
        made: Ids of samples that are not wanted.
    """
    for item in items:
        if not isinstance(item, Scene):
            yield item
            continue
        known: list[Exemplar] | None = None
        used = False
        for variant in range(recipe.variants):
            plan = None
            if sample_id(item, variant) not in made:
                known = known_objects(item, source.schema, recipe, library) if known is None else known
                try:
                    plan = simulate(item, source.schema, recipe, variant, known, textures, label_safe)
                except ChangenError as error:
                    yield Skip(item.source_path, str(error))
                    break
            if not used:
                yield Used(item, alone=plan is None)
            used = True
            if plan is not None:
                yield plan


@dataclass(frozen=True)
class Used:
    """A scene has samples; those that are not there yet follow as plans.

    Attributes:
        scene: The scene.
        alone: Whether no plan follows at once, with which it would share its pixels.
    """

    scene: Scene
    alone: bool = False


Work = Plan | Used | Skip | Opened | Finished | Border
"""What the loop of a run goes through."""


def sample_id(scene: Scene, variant: int) -> str:
    """The id of a sample, safe as a file name."""
    return f"{scene.id}_v{variant:02d}"
