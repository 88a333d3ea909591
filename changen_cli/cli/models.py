"""``changen models``: which models there are, what one is, and whether it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from changen_cli.cli.common import result, result_json

app = typer.Typer(
    no_args_is_help=True,
    help="Models to generate with: list them, show one, check that one runs.",
)

Reference = Annotated[str, typer.Argument(help="Bundled name, path, or Hub id org/name[@revision].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as one JSON object.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the bundled models, the published ones that can be used, and those in the Hub client's cache."""
    from changen_cli.workflows.models import list_models as look

    rows = look()
    if as_json:
        result_json({"models": rows})
        return
    width = max(len(row["id"]) for row in rows)
    for row in rows:
        origin = row["origin"] if row["here"] else f"{row['origin']}, not fetched yet"
        option = "--vae" if row["use"] == "vae" else "--model"
        licence = row.get("license") or "licence not stated"
        result(f"{option:<7} {row['id']:<{width}}  {row.get('does', '')}; {licence} ({origin})")


@app.command("show")
def show(model: Reference, as_json: AsJson = False) -> None:
    """Show a model's architecture, size, classes, codec, noise schedule, licence and facts; it is loaded for it."""
    from changen_cli.workflows.models import describe_model

    found = describe_model(model)
    if as_json:
        result_json(found)
        return
    unknown = ", and one plane for pixels of other classes" if found["unknown_plane"] else ""
    variance = ", with learned variance" if found["learned_variance"] else ""
    size = f"{found['size']}, " if found["size"] else ""
    rows = {
        "model": found["id"] + (f" at {found['revision']}" if found["revision"] else ""),
        "path": found["path"],
        "sha256": found["sha256"],
        "size": f"{found['parameters'] / 1e6:.1f} M parameters, {found['bytes'] / 1e6:.0f} MB",
        "architecture": f"{found['architecture']}: {size}depth {found['depth']}, width {found['width']}, "
        f"{found['heads']} heads, windows of {found['window']} tokens",
        "classes": ", ".join(found["classes"]) + unknown,
        "works on": "pixels" if found["codec"] == "pixel" else f"latents of {found['autoencoder'] or '--vae'}",
        "schedule": f"{found['beta_schedule']}, predicts {found['prediction_type']}{variance}",
        "licence": found["license"] or "not stated",
    }
    told = ("revision", "autoencoder")
    rows |= {name.replace("_", " "): _fact(value) for name, value in found["facts"].items() if name not in told}
    for name, value in rows.items():
        result(f"{name:<13} {value}")


@app.command("check")
def check(
    model: Reference,
    vae: Annotated[
        str | None, typer.Option("--vae", help="Autoencoder of a model of latents: path or Hub id. Default: its own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load a model and run it once on the CPU; exit code 1 and one line when that fails."""
    from changen_cli.workflows.models import check_model

    done = check_model(model, vae)
    if as_json:
        result_json(done)
        return
    codec = f", autoencoder {done['autoencoder']} there and back" if done["autoencoder"] else ""
    result(
        f"{done['id']} runs: loaded in {done['load_seconds']:.1f} s, one pass at {done['side_px']} px in "
        f"{done['forward_seconds']:.2f} s, all numbers finite{codec}"
    )


def _fact(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
