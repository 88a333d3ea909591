"""The sections of a recipe, with what each key means, may be, and is when nobody says."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from changen_cli.core.calendar import check_dates
from changen_cli.core.damage import Disaster
from changen_cli.core.errors import UsageError
from changen_cli.core.licences import check_identifier
from changen_cli.core.quantities import Duration, Size
from changen_cli.core.recipe_values import (
    Kinds,
    Limit,
    LimitShare,
    Matrix,
    Names,
    Nuisance,
    Numbers,
    Rates,
    RepoId,
    Share,
    ShareRange,
    parse_list,
)
from changen_cli.core.secrets import holds_login
from changen_cli.core.transitions import DEFAULT_TRANSITIONS, load_transitions

Layout = Literal["xbd", "pairs", "images"]
Mode = Literal["resume", "extend", "overwrite", "fail"]


class Section(BaseModel):
    """Part of a recipe: unknown keys are refused, values do not change."""

    # A class may be called 1, and a series begin in 2018: YAML takes both for numbers.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """``true`` is no 1: pydantic would take it for one."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("takes no true or false")
        return value

    @field_validator("*")
    @classmethod
    def _no_login(cls, value: Any) -> Any:
        """A recipe is written into the manifest, which is published."""
        if isinstance(value, str) and holds_login(value):
            raise ValueError("an address with a password or key, which would be published: set them in the environment")
        return value


class SourceSection(Section):
    """Where scenes come from and how they are cut."""

    input: str = Field(description="folder of images, or a .zip, .tar or .tar.gz of one")
    layout: Layout | None = Field(None, description="folder layout; detected when not given")
    classes: Names | None = Field(None, description="class names of the masks, in id order")
    res: int | None = Field(
        None, ge=64, le=16384, description="tile size in px; scenes up to 1024 px whole if not given"
    )
    upsample: bool = Field(False, description="enlarge scenes smaller than res instead of skipping them")
    bands: Numbers | None = Field(None, description="three band numbers for red, green, blue, from 1")
    proposals: Literal["auto", "regions", "sam", "none"] = Field(
        "auto", description="how objects are found in images without masks; auto: regions"
    )
    sam_model: str = Field("facebook/sam-vit-base", description="Segment Anything model, path or Hub id")
    max_skipped: Share = Field(0.2, description="share of scenes that may fail before the run counts as failed")
    license: Names | None = Field(
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


class EventsSection(Section):
    """What changes: p(S_{t+1} | S_t)."""

    kinds: Kinds | None = Field(
        None, min_length=1, description="kinds of events; create and remove, only remove on proposals"
    )
    dates: Names | None = Field(
        None, description="dates of the series, ascending: YYYY, YYYY-MM or YYYY-MM-DD; one more than steps"
    )
    steps: int = Field(1, ge=1, le=64, description="steps; a series has one date more")
    change_area: ShareRange = Field((0.02, 0.10), description="share of the tile that changes per step, e.g. 2-10%")
    rates: Rates | None = Field(
        None, description="births and deaths per object present and year, e.g. create=2%,remove=1%; needs dates"
    )
    surfaces: Names | None = Field(
        None, min_length=1, description="classes buildings may be built on; all but buildings, roads and water"
    )
    negatives: Share = Field(0.0, description="share of samples in which nothing changes")
    min_area_px: int = Field(64, ge=1, description="smallest event in px")
    # The whole matrix is kept, not its name: the fingerprint follows what a file says, and the manifest shows it.
    transitions: Matrix | None = Field(
        None, description="rates between classes: a preset's name, a YAML file, or a mapping; openearthmap if not given"
    )

    disaster: Disaster | None = Field(None, description="what damages buildings; wind if not given")
    rebuild: Share = Field(0.0, description="share of the damaged buildings rebuilt per step")

    @model_validator(mode="before")
    @classmethod
    def _profile(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("disaster") is not None:
            return values
        return values | {"disaster": "wind" if "damage" in (parse_list(values.get("kinds")) or ()) else None}

    @model_validator(mode="before")
    @classmethod
    def _matrix(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = values.get("transitions")
        wanted = "transition" in (parse_list(values.get("kinds")) or ())
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
        return values | {"steps": max(1, len(parse_list(values["dates"])) - 1)}

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


class SynthesisSection(Section):
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
    nuisance: Nuisance = Field(
        "realistic",
        description="variation without change, of every date: none, mild, realistic, hard, a YAML file or a mapping",
    )
    keep_date0: bool = Field(False, description="leave date 0 as it came; a detector can then tell the dates apart")

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        if isinstance(values, dict) and "unchanged" in values:
            raise UsageError(
                "synthesis.unchanged is now synthesis.nuisance", "Write none for exact, realistic for reacquired"
            )
        return values

    @model_validator(mode="after")
    def _varied(self) -> SynthesisSection:
        if self.keep_date0 and self.nuisance == "none":
            raise UsageError("--keep-date0 has no effect without nuisance", "Leave out one of the two")
        return self


class GateSection(Section):
    """Which drawn samples are good enough; each limit may be none, which leaves that check out."""

    enabled: bool = Field(True, description="look at every sample that is drawn, and draw bad ones again")
    retries: int = Field(2, ge=0, le=20, description="how often a rejected sample is drawn again, with another seed")
    tolerance: Share = Field(0.25, description="share of a step's changed area that may fail")
    visible: Limit = Field(12.0, description="smallest mean difference in colour between two dates, in grey levels")
    seam: Limit = Field(3.0, description="largest step in colour across a rim, over what is usual around it")
    sharpness: Limit = Field(5.0, description="largest factor between fine detail drawn and that around it")
    grain: Limit = Field(3.0, description="largest factor between steps in hue drawn and those around")
    colour: Limit = Field(90.0, description="largest distance in hue from what is around it, in grey levels")
    saturated: LimitShare = Field(0.5, description="largest share of an event that is white or black altogether")
    agreement: LimitShare = Field(0.1, description="smallest probability of the class, over that on unchanged ground")
    area: LimitShare = Field(0.9, description="largest deviation from the changed area asked for, as a share of it")


class OutputSection(Section):
    """What is written where."""

    path: str | None = Field(None, description="folder, or s3://bucket/name; <input>-changen beside it if not given")
    format: Literal["folder", "parquet"] = Field("folder", description="PNG/GeoTIFF files, or Parquet shards")
    mode: Mode = Field("resume", description="what to do with an earlier run in the output folder")
    push: RepoId | None = Field(None, description="dataset on the Hugging Face Hub to push to at the end, org/name")


class RunSection(Section):
    """How the work is done. Only another device type or dtype may change a byte: they round differently."""

    batch_size: int = Field(4, ge=1, description="scenes whose windows are pooled")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on CUDA, else float32")
    threads: int | None = Field(None, ge=1, description="CPU threads of the model; all cores but one when not given")
    workers: int | None = Field(None, ge=1, description="processes that simulate masks; with ray, that make shards")
    executor: Literal["local", "ray"] = Field("local", description="where shards are made: here, or on a Ray cluster")
    ray_address: str | None = Field(None, description="its address, or auto; one of this machine if not given")
    gpus_per_worker: float | None = Field(None, ge=0, description="GPUs of a Ray worker; 1 where there are some")
    shard_size: int = Field(16, ge=1, description="images per shard: what is made, recorded and resumed as one")
    rank: int | None = Field(None, ge=0, description="which share of a job array this is; from Slurm or torchrun")
    world_size: int | None = Field(None, ge=1, description="of how many shares; from Slurm or torchrun")
    max_failed: Share = Field(0.01, description="share of samples that may fail before the run counts as failed")
    time_budget: Duration | None = Field(None, description="stop at the end of a shard in time, e.g. 2h")
    disk_budget: Size | None = Field(None, description="stop before the dataset is larger, e.g. 200GB")
