"""``changen evaluate``: is a dataset any good? Exactness, shortcuts, statistics, likeness."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from changen_cli.cli.common import make_progress, result, result_json, say

if TYPE_CHECKING:
    from rich.table import Table

_PROBE = "Usefulness"
_PIPE_WIDTH = 160
_STYLES = {"ok": "green", "over": "red", "unsure": "yellow"}


def evaluate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A dataset folder made by changen.")],
    real: Annotated[
        Path | None,
        typer.Option(
            "--real",
            metavar="DIR",
            help="Real pairs to compare with: LEVIR-CD, WHU-CD, S2Looking, SECOND or xBD as published, semantic masks "
            "of two dates, or another dataset of changen.",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=100_000, help="Most samples, and most real pairs, to look at.")
    ] = 200,
    likeness: Annotated[
        bool, typer.Option("--likeness/--no-likeness", help="Compare drawn with real ground by a network's features.")
    ] = True,
    fid_weights: Annotated[
        Path | None,
        typer.Option(
            "--fid-weights",
            metavar="FILE",
            help="Add FID and KID by this network, a TorchScript program that you trust; needs changen\\[metrics].",
        ),
    ] = None,
    clip_weights: Annotated[
        Path | None,
        typer.Option("--clip-weights", metavar="FILE", help="Add CMMD by this network; likewise a program."),
    ] = None,
    lpips_weights: Annotated[
        Path | None,
        typer.Option("--lpips-weights", metavar="FILE", help="Add LPIPS by this network; likewise a program."),
    ] = None,
    use: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Train a small change detector on the dataset, and on label exchange and copy-paste of its first "
            "dates, and try all three on --real: about ten minutes of one core.",
            rich_help_panel=_PROBE,
        ),
    ] = False,
    unchanged: Annotated[
        list[Path] | None,
        typer.Option(
            "--unchanged",
            metavar="DIR",
            help="Also count false alarms on real images of the same places at two dates, without labels: a folder per "
            "date, or names that differ by a year. May be repeated.",
            rich_help_panel=_PROBE,
        ),
    ] = None,
    probe_pairs: Annotated[
        int,
        typer.Option("--probe-pairs", min=8, help="Crops of pairs each detector learns from.", rich_help_panel=_PROBE),
    ] = 2_400,
    probe_seed: Annotated[
        int, typer.Option("--probe-seed", min=0, help="Seed of weights and crops.", rich_help_panel=_PROBE)
    ] = 0,
    detectors: Annotated[
        Path | None,
        typer.Option(
            "--detectors", metavar="DIR", help="Keep the three detectors here, for detect.", rich_help_panel=_PROBE
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="CPU threads of the probe. \\[default: cores - 1]", rich_help_panel=_PROBE
        ),
    ] = None,
    page: Annotated[bool, typer.Option("--report", help="Write OUT/report.html too, with the figures in it.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as one JSON object.")] = False,
) -> None:
    """Measure whether a dataset is any good, offline: OUT/evaluation.json, a section of its card, and a table.

    Exactness: do labels, events and masks agree; exit code 1 if not. Shortcuts: could a detector score without seeing
    change? Each cue alone (colour difference, contrast, sharpness, noise, JPEG blocks) is asked what changed and which
    date is later, on places it was not fitted to: ROC AUC 0.5 is guessing. A cue is over when it does better than 0.65,
    or with --real better than on real pairs by 0.10; unsure where chance may be why. Statistics: change asked, made
    and real. Likeness: how far drawn ground is from real ground, beside unchanged ground.

    Usefulness, with --probe: what a small change detector learns from the dataset, beside what it learns from the same
    images without synthesis. Labelled pairs of --real say it best; --unchanged counts false alarms.

    Example: changen evaluate ./out --real ./LEVIR-CD --report
    """
    from changen_cli.core.errors import UsageError
    from changen_cli.workflows.evaluate import evaluate as run
    from changen_cli.workflows.probe import ProbeRequest, probe
    from changen_cli.workflows.published_metrics import Networks

    networks = Networks(fid_weights, clip_weights, lpips_weights)
    if not use and (unchanged or detectors):
        raise UsageError("--unchanged and --detectors go with --probe", "Add --probe")
    with make_progress(quiet=quiet, items="items", made="read") as progress:
        found = run(out, real=real, samples=samples, likeness=likeness, networks=networks, progress=progress)
        if use:
            request = ProbeRequest(
                real=real, unchanged=tuple(unchanged or ()), pairs_seen=probe_pairs, samples=samples, seed=probe_seed,
                threads=threads, detectors=detectors,
            )  # fmt: skip
            found["usefulness"] = probe(out, request, progress)
        if page:
            from changen_cli.workflows.report import make_report

            made = make_report(out, progress=progress).path
    if as_json:
        result_json(found)
    else:
        _tell(out, found)
        if page:
            result(str(made))
    if found["exactness"]["errors"]:
        raise typer.Exit(1)


def _tell(out: Path, found: dict[str, Any]) -> None:
    """Print the figures: cues with their verdicts, then counts, then what to do."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(_cue_table(found))
    console.print(_figure_table(found))
    if use_of := found.get("usefulness", {}).get("tested_on"):
        console.print(_use_table(found["usefulness"], use_of))
    exact, looked, shortcuts = found["exactness"], found["looked_at"], found["shortcuts"]
    for cue, advice in _advice(shortcuts):
        say(f"{', '.join(cue)}: {advice}.")
    say(
        f"labels: {exact['errors']} errors, {exact['warnings']} warnings"
        + "".join(f"\n  {it}" for it in exact["first"])
    )
    say(
        f"shortcuts: {shortcuts['verdict']}, by {looked['pairs']} pairs of {looked['places']} places; figures in "
        f"{out / 'evaluation.json'}"
    )


def _advice(shortcuts: dict[str, Any]) -> list[tuple[list[str], str]]:
    """What to do, each said once, with the cues it is about."""
    told: dict[str, list[str]] = {}
    for kind in ("change", "date", "balance"):
        for name, row in shortcuts[kind].items():
            if row["advice"]:
                told.setdefault(row["advice"], []).append(f"{kind} {name}")
    return [(cues, advice) for advice, cues in told.items()]


def _cue_table(found: dict[str, Any]) -> Table:
    from rich.table import Column, Table

    compared = found["real"] is not None
    heads: list[Column | str] = ["cue", "tells", Column("made", justify="right")]
    heads += [Column("real", justify="right")] if compared else []
    table = Table(*heads, Column("wanted", justify="right"), "verdict", title="Shortcuts (ROC AUC; ratio of dates)")
    tells = {"change": "what changed", "date": "which date is later", "balance": "later over earlier"}
    for kind, what in tells.items():
        key = "ratio" if kind == "balance" else "auc"
        for name, row in found["shortcuts"][kind].items():
            cells = [name, what, _sure(row, key)]
            cells += [_value(row.get(f"real_{key}"))] if compared else []
            wanted = f"1 ± {row['bar']:.2f}" if kind == "balance" else f"≤ {row['bar']:.2f}"
            style = _STYLES[row["verdict"]]
            table.add_row(*cells, wanted, f"[{style}]{row['verdict']}[/{style}]")
        table.add_section()
    return table


def _figure_table(found: dict[str, Any]) -> Table:
    from rich.table import Column, Table

    columns = ("asked", "made", "real") if found["real"] else ("asked", "made")
    table = Table("figure", *(Column(name, justify="right") for name in columns), title="Statistics and likeness")
    for name, row in found["statistics"].items():
        table.add_row(
            name.replace("_", " "), *(_value(row[column], name) if column in row else "" for column in columns)
        )
    for name, value in found["likeness"].items():
        if not name.startswith("real_"):
            beside = [_value(found["likeness"].get(f"real_{name}"))] if found["real"] else []
            table.add_row(f"likeness: {name.replace('_', ' ')}", "", _value(value), *beside)
    return table


def _use_table(use: dict[str, Any], tested_on: str) -> Table:
    """What detectors learned from the dataset and from cheaper pairs; empty where the section is somebody else's."""
    from rich.table import Column, Table

    from changen_cli.workflows.evaluation import RIVALS

    title = f"Usefulness: zero-shot on {tested_on}, {use.get('tested_pairs')} pairs"
    kinds = ("f1", "iou", "ap", "precision", "recall", "area_ratio", "false_alarm_share")
    heads = ("F1", "IoU", "AP", "precision", "recall", "area said / true", "false alarms")
    shown = [(key, head) for key, head in zip(kinds, heads, strict=True) if f"{key}_ours" in use]
    table = Table("learned from", *(Column(head, justify="right") for _, head in shown), title=title)
    for name, told in RIVALS.items():
        if f"f1_{name}" in use:
            cells = [_value(use.get(f"{key}_{name}"), key) for key, _ in shown]
            error = use.get(f"f1_error_{name}")
            cells[0] += f" ± {error:.2g}" if error is not None else ""
            table.add_row(told, *cells)
    return table


def _sure(row: dict[str, Any], key: str) -> str:
    return "–" if row[key] is None else f"{row[key]:.3f} ± {row['error'] or 0:.3f}"


def _value(value: float | int | None, name: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:.2%}" if name.endswith("share") else f"{value:.4g}"
