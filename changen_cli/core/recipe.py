"""The recipe: everything a run can be told, validated, with a fingerprint of what decides its bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from changen_cli.core.calendar import check_dates
from changen_cli.core.damage import Disaster
from changen_cli.core.errors import UsageError
from changen_cli.core.licences import check_identifier
from changen_cli.core.quantities import Duration, Size
from changen_cli.core.transitions import DEFAULT_TRANSITIONS, TransitionTable, load_transitions

Layout = Literal["xbd", "pairs", "images"]
RatedKind = Literal["create", "remove", "grow"]
Mode = Literal["resume", "extend", "overwrite", "fail"]
EventName = Literal["create", "remove", "swap", "transition", "grow", "alter", "damage"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_share(value: Any) -> Any:
    """Turn ``"20%"`` or ``"0.2"`` into a share."""
    if not isinstance(value, str):
        return value
    try:
        return float(value.strip().removesuffix("%")) / (100 if value.strip().endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{value!r} is no share; write 20% or 0.2") from None


def parse_share_range(value: Any) -> Any:
    """Turn ``"2-10%"``, ``"5%"`` or ``"0.02-0.1"`` into a pair of shares."""
    if not isinstance(value, str):
        return value
    percent = value.strip().endswith("%")
    try:
        numbers = [float(part.strip().rstrip("%")) for part in value.split("-")]
    except ValueError:
        raise ValueError(f"{value!r} is no share range; write 2-10%") from None
    unit = 100 if percent else 1  # divided by: 57% must be the very number 0.57 is
    return (numbers[0] / unit, numbers[-1] / unit) if len(numbers) in (1, 2) else value


def parse_rates(value: Any) -> Any:
    """Turn ``"create=2%,remove=0.01"`` into rates by kind."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not pairs or any(not equals for _, equals, _ in pairs):
        raise ValueError(f"{value!r} names no rates; write create=2%,remove=1%")
    return {kind.strip(): parse_share(rate) for kind, _, rate in pairs}


Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1)]
ShareRange = Annotated[tuple[float, float], BeforeValidator(parse_share_range)]


class SourceSection(_Section):
    """Where scenes come from and how they are cut."""

    input: str = Field(description="folder of images")
    layout: Layout | None = Field(None, description="folder layout; detected when not given")
    classes: tuple[str, ...] | None = Field(None, description="class names of the masks, in id order")
    res: int | None = Field(
        None, ge=64, le=16384, description="tile size in px; scenes up to 1024 px whole if not given"
    )
    upsample: bool = Field(False, description="enlarge scenes smaller than res instead of skipping them")
    bands: tuple[int, ...] | None = Field(None, description="three band numbers for red, green, blue, from 1")
    proposals: Literal["auto", "regions", "sam", "none"] = Field(
        "auto", description="how objects are found in images without masks; auto: regions"
    )
    sam_model: str = Field("facebook/sam-vit-base", description="Segment Anything model, path or Hub id")
    max_skipped: Share = Field(0.2, description="share of scenes that may fail before the run counts as failed")
    license: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="licences of images and labels; else as changen-source.yaml says",
    )

    @field_validator("license")
    @classmethod
    def _identified(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if value is None else tuple(check_identifier(name, "--source-license") for name in value)

    @field_validator("bands")
    @classmethod
    def _three(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (len(value) not in (1, 3) or min(value) < 1):
            raise ValueError("one or three band numbers, counted from 1")
        return value


class EventsSection(_Section):
    """What changes: p(S_{t+1} | S_t)."""

    kinds: tuple[EventName, ...] | None = Field(
        None, min_length=1, description="kinds of events; create and remove, only remove on proposals"
    )
    dates: tuple[str, ...] | None = Field(
        None, description="dates of the series, ascending: YYYY, YYYY-MM or YYYY-MM-DD; one more than steps"
    )
    steps: int = Field(1, ge=1, le=64, description="steps; a series has one date more")
    change_area: ShareRange = Field((0.02, 0.10), description="share of the tile that changes per step, e.g. 2-10%")
    rates: Annotated[dict[RatedKind, NonNegativeFloat], BeforeValidator(parse_rates)] | None = Field(
        None, description="births and deaths per object present and year, e.g. create=2%,remove=1%; needs dates"
    )
    surfaces: tuple[str, ...] | None = Field(
        None, min_length=1, description="classes buildings may be built on; all but buildings, roads and water"
    )
    negatives: Share = Field(0.0, description="share of samples in which nothing changes")
    min_area_px: int = Field(64, ge=1, description="smallest event in px")
    # The whole matrix is kept, not its name: the fingerprint follows what a file says, and the manifest shows it.
    transitions: Annotated[TransitionTable, BeforeValidator(load_transitions)] | None = Field(
        None, description="rates between classes: a preset's name, a YAML file, or a mapping; openearthmap if not given"
    )

    disaster: Disaster | None = Field(None, description="what damages buildings; wind if not given")
    rebuild: Share = Field(0.0, description="share of the damaged buildings rebuilt per step")

    @model_validator(mode="before")
    @classmethod
    def _profile(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("disaster") is not None:
            return values
        return values | {"disaster": "wind" if "damage" in (values.get("kinds") or ()) else None}

    @model_validator(mode="before")
    @classmethod
    def _matrix(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = values.get("transitions")
        wanted = "transition" in (values.get("kinds") or ())
        if given is None and not wanted:
            return values | {"transitions": None}
        table = load_transitions(DEFAULT_TRANSITIONS if given is None else given)
        # How much changes is learned with a matrix; who says it himself is not overruled.
        area = {"change_area": table.change_area} if table.change_area and "change_area" not in values else {}
        return values | {"transitions": table} | area

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, values: Any) -> Any:
        """Dates say how many steps there are."""
        if not isinstance(values, dict) or not values.get("dates") or values.get("steps") is not None:
            return values
        return values | {"steps": max(1, len(values["dates"]) - 1)}

    @field_validator("dates")
    @classmethod
    def _dated(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None:
            check_dates(value)
        return value

    @model_validator(mode="after")
    def _as_many(self) -> EventsSection:
        if self.dates is not None and self.steps != len(self.dates) - 1:
            raise UsageError(
                f"--dates names {len(self.dates)} dates, which makes {len(self.dates) - 1} steps, not {self.steps}",
                "Leave out --steps",
            )
        return self

    @model_validator(mode="after")
    def _used(self) -> EventsSection:
        if self.transitions is not None and "transition" not in (self.kinds or ()):
            raise UsageError("--transitions has no effect without the event kind", "Add it: --events transition")
        asked = [name for name in ("disaster", "rebuild") if getattr(self, name)]
        if asked and "damage" not in (self.kinds or ()):
            raise UsageError(f"--{asked[0]} has no effect without the event kind", "Add it: --events damage")
        return self

    @model_validator(mode="after")
    def _rated(self) -> EventsSection:
        if self.rates is None:
            return self
        if self.dates is None:
            raise UsageError(
                "--rates are per year, and nothing says how long a step is", "Give the --dates of the series"
            )
        missing = [kind for kind in self.rates if kind not in (self.kinds or ("create", "remove"))]
        if missing:
            raise UsageError(f"--rates names {missing[0]}, which is no event kind of the run", "Add it to --events")
        return self

    @field_validator("change_area")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0 < low <= high <= 1:
            raise ValueError("a share range runs from a small to a large share within 0-100%, e.g. 2-10%")
        return value


class SynthesisSection(_Section):
    """How images of later dates are drawn: p(I_{t+1} | I_t, S_t, S_{t+1})."""

    model: str = Field("changen-mini", description="bundled model name, path of a model, or Hub id org/name[@revision]")
    vae: str | None = Field(None, description="autoencoder of a model of latents, path or Hub id; its own if not given")
    scheduler: Literal["dpm++", "ddim", "iddpm"] = Field("dpm++", description="sampler; Euler where trained by flow")
    inference_steps: int = Field(10, ge=1, le=1000, description="steps of the whole noise schedule")
    start: Literal["exemplar", "noise"] = Field("exemplar", description="start of the reverse process")
    strength: float = Field(0.1, ge=0, le=1, description="noise level of an exemplar start; 0 needs no model")
    guidance_ratio: float = Field(1.0, ge=0, le=1, description="share of steps that hold unchanged pixels (λ)")
    guidance_scale: float = Field(1.0, ge=0, le=20, description="classifier-free guidance; 1 leaves it out")
    extent: Literal["windows", "full"] = Field("windows", description="what is denoised")
    unchanged: Literal["exact", "reacquired"] = Field("reacquired", description="how unchanged pixels are treated")


class OutputSection(_Section):
    """What is written where."""

    path: str | None = Field(None, description="output folder; <input>-changen beside the input when not given")
    format: Literal["folder", "parquet"] = Field("folder", description="PNG/GeoTIFF files, or Parquet shards")
    mode: Mode = Field("resume", description="what to do with an earlier run in the output folder")


class RunSection(_Section):
    """How the work is done. Only another device type or dtype may change a byte: they round differently."""

    batch_size: int = Field(4, ge=1, description="scenes whose windows are pooled")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on CUDA, else float32")
    threads: int | None = Field(None, ge=1, description="CPU threads of the model; all cores but one when not given")
    workers: int = Field(1, ge=1, description="processes that simulate masks; 1: on a thread of this one")
    shard_size: int = Field(16, ge=1, description="images per shard: what is made, recorded and resumed as one")
    max_failed: Share = Field(0.01, description="share of samples that may fail before the run counts as failed")
    time_budget: Duration | None = Field(None, description="stop at the end of a shard in time, e.g. 2h")
    disk_budget: Size | None = Field(None, description="stop before the dataset is larger, e.g. 200GB")


class Recipe(_Section):
    """A complete, validated configuration of one run."""

    version: Literal[1] = 1
    source: SourceSection
    events: EventsSection = EventsSection()
    synthesis: SynthesisSection = SynthesisSection()
    output: OutputSection = OutputSection()
    run: RunSection = RunSection()
    seed: int = Field(0, ge=0, description="seed of everything random")
    variants: int = Field(1, ge=1, description="samples per scene")
    limit: int | None = Field(None, ge=1, description="stop after this many scenes")

    @property
    def output_path(self) -> Path:
        """The output folder: as asked, else ``<input>-changen`` beside the input."""
        if self.output.path:
            return Path(self.output.path)
        source = Path(self.source.input).resolve()
        return source.parent / f"{source.name}-changen"

    def content(self) -> dict[str, Any]:
        """All settings that decide the content."""
        return content_of(self.model_dump(mode="json"))

    def fingerprint(self) -> str:
        """Hash of all settings that decide the content."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def content_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Of a recipe as a dict, what decides the content: everything but ``run``, paths, licences, ``mode`` and limits."""
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in recipe.items()}
    for key in ("run", "limit"):
        content.pop(key, None)
    for key in ("path", "mode", "overwrite"):
        content["output"].pop(key, None)
    for key in ("input", "license", "max_skipped"):
        content["source"].pop(key, None)
    return content


def build_recipe(values: dict[str, Any]) -> Recipe:
    """Validate a nested dict into a :class:`Recipe`.

    Raises:
        UsageError: Naming the key, what is wrong with it and the value given.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        # The key is the recipe's; on the command line the same setting is an option of its own name.
        field = str(first["loc"][1] if first["loc"][0] in Recipe.model_fields and len(first["loc"]) > 1 else key)
        option = {"kinds": "events", "path": "output", "license": "source_license"}.get(field, field).replace("_", "-")
        raise UsageError(f"{key} (--{option}): {reason} (given: {first['input']!r})") from None
