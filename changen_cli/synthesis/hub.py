"""Model references: a bundled name, a path, or a Hub id, each led to its files. Nothing here loads torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from changen_cli.core.errors import ModelError
from changen_cli.core.landcover import OPENEARTHMAP
from changen_cli.core.untrusted import parse_json, read_json

BUNDLED = Path(__file__).parent.parent / "data" / "models"
SEGMENTER = "changen-segmenter"
"""The bundled model that judges images instead of drawing them; never offered as a denoiser."""
DEFAULT_AUTOENCODER = "stabilityai/sd-vae-ft-ema"
"""What published Changen2 states were trained with: AutoencoderKL, 4 channels at 1/8, scaling 0.18215."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_SUFFIXES = (".safetensors", *PICKLES)
_USUAL_NAMES = ("model", "diffusion_pytorch_model", "pytorch_model")
_COMPANIONS = ("model_index.json", "vae/config.json")
"""Files that say a denoiser has its autoencoder with it: in a diffusers pipeline, or in a folder made by training."""
_OTHER_STATES = re.compile(r"optim|sched|training_args|rng_state|scaler|random_states|(^|/)(vae|autoencoder)/")
_HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 10.0
_CONFIG_BYTES = 1 << 24


@dataclass(frozen=True)
class KnownModel:
    """A published model whose meaning does not lie in its file.

    Attributes:
        id: Hub id.
        does: What it draws, one line.
        classes: Names of the label planes.
        license: Licence of the weights.
        autoencoder: Hub id of the autoencoder its latents are of.
    """

    id: str
    does: str
    classes: tuple[str, ...]
    license: str
    autoencoder: str = DEFAULT_AUTOENCODER


KNOWN = (
    KnownModel(
        "EVER-Z/Changen2_RSDiT-B-2-xView2-256",
        "Changen2's RS-DiT-B/2 on latents, trained on xView2 at 256 px: buildings",
        ("building",),
        "CC BY-NC-SA 4.0",
    ),
    KnownModel(
        "EVER-Z/Changen2_RSDiT-B-2-OEM-256",
        "Changen2's RS-DiT-B/2 on latents, trained on OpenEarthMap at 256 px: eight land-cover classes",
        OPENEARTHMAP,
        "CC BY-NC-SA 4.0",
    ),
)


@dataclass(frozen=True)
class ModelFile:
    """Where the weights of a model lie.

    Attributes:
        id: What to call it: a bundled model's name, a file's or folder's name, or a Hub id.
        path: The weights.
        origin: Where it came from.
        revision: Commit on the Hub.
        config: What a ``config.json`` beside the weights says.
        autoencoder: Reference to the autoencoder that lies in the same folder or repository, if one does.
    """

    id: str
    path: Path
    origin: Literal["bundled", "local", "hub"] = "local"
    revision: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    autoencoder: str = ""

    @property
    def known(self) -> KnownModel | None:
        """The published model this is: by its Hub id, or by a file or folder that kept its name."""
        names = {self.id, self.path.stem, self.path.parent.name}
        return next((model for model in KNOWN if {model.id, model.id.split("/")[1]} & names), None)


@dataclass(frozen=True)
class Files:
    """Files of one reference: ``names`` are relative to ``folder``."""

    id: str
    folder: Path
    names: tuple[str, ...]
    origin: Literal["local", "hub"]
    revision: str = ""


Select = Callable[[Sequence[str]], list[str]]
"""Picks the files that are needed from all there are; empty when what is needed is not among them."""


def find_model(reference: str) -> ModelFile:
    """Find a model: a bundled name, a file or folder, or a Hub id ``org/name[@revision]``.

    Hub ids go through the Hub client's cache. When the Hub cannot be reached, or HF_HUB_OFFLINE is set, the cache is
    all there is.

    Raises:
        ModelError: Naming the reference, why it cannot be found, and what to do.
    """
    bundled = BUNDLED / f"{reference}.safetensors"
    if re.fullmatch(r"[\w.-]+", reference) and bundled.is_file():
        return ModelFile(reference, bundled, "bundled")
    path = Path(reference).expanduser()
    if path.is_file():
        names = [item.name for item in path.parent.iterdir() if item.name == "config.json"]
        if path.suffix not in _SUFFIXES:
            raise ModelError(f"{path} is no model file", f"Those end in {', '.join(_SUFFIXES)}")
        name = path.resolve().parent.name if path.stem in _USUAL_NAMES else path.name
        return ModelFile(name, path, config=_read_config(path.parent / "config.json") if names else {})
    files = _locate(reference, select_model, "model", "a .safetensors, .bin, .pt, .pth or .ckpt file")
    weights = files.folder / files.names[0]
    config = next((files.folder / name for name in files.names[1:] if name not in _COMPANIONS), None)
    return ModelFile(
        files.id,
        weights,
        files.origin,
        files.revision,
        _read_config(config) if config else {},
        reference if set(_COMPANIONS) & set(files.names) else "",
    )


def is_hub_id(reference: str) -> bool:
    """Whether only the Hub can say if there is such a model: it is no file or folder here, and reads ``org/name``."""
    hub = _HUB_ID.fullmatch(reference)
    if hub is None or PurePosixPath(hub["id"]).suffix in _SUFFIXES:
        return False
    return not Path(reference).expanduser().exists()


def find_autoencoder(reference: str) -> Files:
    """Find an autoencoder: a folder with ``config.json`` and weights, a pipeline's folder, or the Hub id of either.

    Returns:
        The files; the configuration is the first of them, the weights are the second.

    Raises:
        ModelError: Naming the reference, why it cannot be found, and what to do.
    """
    return _locate(
        reference, select_autoencoder, "autoencoder", "config.json beside diffusion_pytorch_model.safetensors"
    )


def find_segmenter(reference: str) -> Files:
    """Find a model of transformers: a folder with ``config.json`` and weights, or the Hub id of one.

    Returns:
        The files: the configuration, the weights, and the model card where there is one.

    Raises:
        ModelError: Naming the reference, why it cannot be found, and what to do.
    """
    return _locate(reference, select_segmenter, "segmentation model", "config.json beside model.safetensors")


def select_segmenter(names: Sequence[str]) -> list[str]:
    """Pick configuration, weights (one file, or all shards of them) and card of a model of transformers."""
    shards = sorted(name for name in names if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name))
    whole = bool(shards) and len(shards) == int(shards[0].split("-")[-1].split(".")[0])
    choices = (["model.safetensors"], ["model.safetensors.index.json", *shards] if whole else [], ["pytorch_model.bin"])
    weights = next((choice for choice in choices if choice and set(choice) <= set(names)), None)
    if weights is None or "config.json" not in names:
        return []
    return ["config.json", *weights, *(name for name in ("README.md",) if name in names)]


def select_model(names: Sequence[str]) -> list[str]:
    """Pick the weights of a denoiser, safetensors before pickles, and the configuration beside them.

    Raises:
        ModelError: When several files fit equally well.
    """
    pipeline = "model_index.json" in names
    found = [name for name in names if PurePosixPath(name).suffix in _SUFFIXES and not _OTHER_STATES.search(name)]
    if pipeline:
        found = [name for name in found if name.startswith("transformer/")]
    if not found:
        return []

    def rank(name: str) -> tuple[bool, int, int, bool]:
        path = PurePosixPath(name)
        usual = _USUAL_NAMES.index(path.stem) if path.stem in _USUAL_NAMES else len(_USUAL_NAMES)
        return path.suffix in PICKLES, len(path.parts), usual, "ema" not in path.stem.lower()

    best = min(map(rank, found))
    fits = sorted(name for name in found if rank(name) == best)
    if len(fits) > 1:
        raise ModelError(f"holds several models ({', '.join(fits[:4])})", "Download it and name one of the files")
    config = str(PurePosixPath(fits[0]).with_name("config.json"))
    return fits + [name for name in (config, *_COMPANIONS) if name in names]


def select_autoencoder(names: Sequence[str]) -> list[str]:
    """Pick configuration and weights of an autoencoder; those in ``vae/`` of a pipeline or of a model of latents."""
    prefix = "vae/" if set(_COMPANIONS) & set(names) else ""
    weights = (f"{prefix}diffusion_pytorch_model{suffix}" for suffix in (".safetensors", ".bin"))
    found = next((name for name in weights if name in names), None)
    return [f"{prefix}config.json", found] if found and f"{prefix}config.json" in names else []


def read_header(path: Path) -> dict[str, Any]:
    """Read the names, types and shapes of a safetensors file, and its ``__metadata__``, without its tensors.

    Raises:
        ValueError: When it is no safetensors file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= 100_000_000:
            raise ValueError(f"{path} is no safetensors file")
        header = parse_json(file.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError(f"{path} is no safetensors file")
    return header


def cached_repositories() -> Iterator[Files]:
    """All models in the Hub client's cache: of each the revision ``main`` points to, else the newest."""
    for repo in sorted(_cached_repos(), key=lambda repo: str(repo.repo_id)):
        revision = _revision_of(repo, "")
        if revision is not None:
            yield _files_of(repo, revision)


def _locate(reference: str, select: Select, what: str, needed: str) -> Files:
    """Lead a folder or Hub id to the files ``select`` picks."""
    path = Path(reference).expanduser()
    hub = _HUB_ID.fullmatch(reference)
    try:
        if reference and path.is_dir():
            # No deeper: who names a home folder by mistake should not wait for all of it.
            found = (item for pattern in ("*", "*/*", "*/*/*") for item in path.glob(pattern))
            names = [item.relative_to(path).as_posix() for item in found if item.is_file()]
            files = Files(path.resolve().name, path, tuple(select(names)), "local")
        elif hub and is_hub_id(reference):
            files = _from_hub(hub["id"], hub["revision"] or "", select)
        else:
            denoisers = sorted(file.stem for file in BUNDLED.glob("*.safetensors") if file.stem != SEGMENTER)
            names = denoisers if what == "model" else []
            bundled = f"neither bundled ({', '.join(names) or 'none'}) nor" if what == "model" else "neither"
            raise ModelError(
                f"{what} {reference!r} is {bundled} a file or folder, and no Hub id (org/name)",
                "See `changen models list`",
            )
    except ModelError as error:
        text = str(error)
        raise (error if reference in text else ModelError(f"{what} {reference}: {text}")) from error.__cause__
    if not files.names:
        raise ModelError(f"{what} {reference} holds no weights", f"It should hold {needed}")
    return files


def _from_hub(repo_id: str, revision: str, select: Select) -> Files:
    """Fetch the files ``select`` picks, from the Hub or from its client's cache."""
    from huggingface_hub import HfApi, errors, hf_hub_download

    shown = f"{repo_id}@{revision}" if revision else repo_id
    cached = _from_cache(repo_id, revision, select)
    if cached and _COMMIT.fullmatch(revision):
        return cached  # a commit never changes
    try:
        info = HfApi().model_info(repo_id, revision=revision or None, timeout=_TIMEOUT_S)
        names = select([item.rfilename for item in info.siblings or ()])
        for name in names:
            local = hf_hub_download(repo_id, name, revision=info.sha, etag_timeout=_TIMEOUT_S)
            folder = Path(local).parents[len(PurePosixPath(name).parts) - 1]
    except ModelError:
        raise
    except errors.GatedRepoError as error:
        fix = f"Accept the conditions on https://huggingface.co/{repo_id}, then log in with `hf auth login`"
        raise ModelError(f"{shown}: access has to be asked for", fix) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{shown}: the Hub has no such revision", "Leave out the part after @") from error
    except errors.RepositoryNotFoundError as error:
        fix = "Check the id; for a private one log in with `hf auth login`"
        raise ModelError(f"{shown}: the Hub has no such model, and it is no file or folder here", fix) from error
    except Exception as error:
        # Whatever its HTTP library raises (it changed twice); a programming error would show in the reason.
        if cached:
            return cached
        reason = "offline mode is set" if isinstance(error, errors.OfflineModeIsEnabled) else _one_line(error)
        fix = "Fetch it once while online, or download it elsewhere and give its path"
        raise ModelError(f"{shown} is not on this machine and the Hub cannot be used ({reason})", fix) from error
    return Files(repo_id, folder if names else Path(), tuple(names), "hub", info.sha or "")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _from_cache(repo_id: str, revision: str, select: Select) -> Files | None:
    """The same files as far as they are in the cache; None when what is needed is not all there."""
    repo = next((repo for repo in _cached_repos() if repo.repo_id == repo_id), None)
    found = _revision_of(repo, revision) if repo else None
    if found is None:
        return None
    files = _files_of(repo, found)
    names = select(files.names)
    return Files(repo_id, files.folder, tuple(names), "hub", files.revision) if names else None


def _cached_repos() -> list[Any]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return [repo for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos if repo.repo_type == "model"]
    except (CacheNotFound, OSError):
        return []


def _revision_of(repo: Any, wanted: str) -> Any:
    """A cached revision by branch, tag or start of its commit; ``main``, else the newest, when none is named."""
    newest = sorted(repo.revisions, key=lambda item: float(item.last_modified), reverse=True)
    named = [item for item in newest if (wanted or "main") in item.refs]
    if wanted and len(wanted) >= 7:
        named += [item for item in newest if item.commit_hash.startswith(wanted)]
    return next(iter(named if wanted else named + newest), None)


def _files_of(repo: Any, revision: Any) -> Files:
    folder = Path(revision.snapshot_path)
    names = tuple(sorted(Path(item.file_path).relative_to(folder).as_posix() for item in revision.files))
    return Files(str(repo.repo_id), folder, names, "hub", str(revision.commit_hash))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path, _CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is no readable configuration: {_one_line(error)}", "Download it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is no configuration of a model", "Download it again")
    return config
