"""What there is after a run, and whether it is enough."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from changen_cli.core.errors import IncompleteError
from changen_cli.core.recipe import Recipe
from changen_cli.core.types import Skip
from changen_cli.workflows.ledger import Ledger, count_reasons, noted_counts, rejected_line
from changen_cli.workflows.resume import Past


@dataclass
class RunResult:
    """What there is after a run.

    Attributes:
        output: The dataset folder, or its address.
        preview: The contact sheet; None when no sample was made, or it lies elsewhere.
        samples: Samples of the dataset.
        scenes: Scenes (tiles) used.
        skipped: Scenes not used, with the reason.
        failed: Source images that are broken.
        failed_samples: Samples that could not be made, by id, with the reason.
        rejected: Samples that the quality gate dropped, by reason.
        seconds: Wall time.
        statistics: Figures for people: changed share, events by kind, steps met.
        nothing_to_do: Whether everything was there before.
        pushed: Address the dataset was pushed to; empty where it was not.
        share: The rank whose share was made, where the others' are not all there yet; else empty.
    """

    output: Path | str
    preview: Path | None = None
    samples: int = 0
    scenes: int = 0
    skipped: list[Skip] = field(default_factory=list)
    failed: int = 0
    failed_samples: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    statistics: dict[str, Any] = field(default_factory=dict)
    nothing_to_do: bool = False
    pushed: str = ""
    share: str = ""


def result_of(recipe: Recipe, ledger: Ledger) -> RunResult:
    """What there is, by the account of a dataset."""
    return RunResult(
        recipe.output_path,
        samples=ledger.samples,
        scenes=len(ledger.scenes),
        skipped=ledger.skipped,
        failed=ledger.failed_images,
        failed_samples=ledger.failed,
        rejected=count_reasons(ledger.rejected.values()),
        statistics=ledger.statistics(),
    )


def result_before(recipe: Recipe, past: Past) -> RunResult:
    """What there is of a dataset to which nothing is to be added."""
    counts, preview = past.manifest.counts, recipe.output_path / "preview.png"
    return RunResult(
        recipe.output_path,
        preview if preview.is_file() else None,
        samples=counts.get("samples", 0),
        scenes=counts.get("scenes", 0),
        skipped=[
            Skip(str(skip["path"]), str(skip.get("reason")), bool(skip.get("failed")))
            for skip in past.manifest.skipped
            if "path" in skip
        ],
        failed=counts.get("failed", 0),
        rejected=noted_counts(past.manifest.statistics),
        statistics=past.manifest.statistics,
        nothing_to_do=True,
    )


def check_complete(recipe: Recipe, result: RunResult, ledger: Ledger, stop: str) -> None:
    """Raise when too little of what was asked for is there."""
    kept = f"The samples of the others are in {result.output}; the manifest lists the reasons"
    if not result.samples and ledger.rejected and not stop:
        raise IncompleteError(
            f"the quality gate {rejected_line(result.rejected, 0)}, and nothing is left",
            f"Look at {result.output}/rejected; docs/gate.md says what to do about each reason, --no-gate keeps all",
        )
    if not result.samples and not ledger.rejected:
        skips = [f"{skip.path}: {skip.reason}" for skip in result.skipped[:3]]
        reasons = "; ".join([*skips, *(f"{name}: {why}" for name, why in [*ledger.failed.items()][:3])][:3])
        raise IncompleteError(f"no sample could be made of {recipe.source.input} ({reasons or 'it holds no scene'})")
    if stop:
        raise IncompleteError(
            f"{stop}: {result.samples} samples are in {result.output}", "Run the same command again to go on"
        )
    if result.failed > recipe.source.max_skipped * ledger.images:
        raise IncompleteError(
            f"{result.failed} of {ledger.images} images failed, more than --max-skipped "
            f"{recipe.source.max_skipped:.0%}",
            kept,
        )
    total = len(ledger.failed) + result.samples
    if len(ledger.failed) > recipe.run.max_failed * total:
        name, reason = next(iter(ledger.failed.items()))
        raise IncompleteError(
            f"{len(ledger.failed)} of {total} samples failed, more than --max-failed {recipe.run.max_failed:.0%}; "
            f"{name}: {reason}",
            f"{kept}, and the same command tries them again",
        )
