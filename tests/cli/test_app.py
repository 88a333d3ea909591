"""The command as people type it: streams, exit codes, one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from changen_cli import __version__
from changen_cli.cli.app import app
from changen_cli.workflows import drawing as workflow


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def quick(model_file: Path) -> list[str]:
    """Options that keep a run short; the rest as typed."""
    return ["--model", str(model_file), "--inference-steps", "4", "--device", "cpu", "--threads", "1", "--no-gate"]


def one_line(text: str) -> bool:
    return text.startswith("Error: ") and text.count("\n") == 1 and "Traceback" not in text


def test_generate_as_typed(xbd_tree, quick) -> None:
    done = run("generate", "--input", xbd_tree, "--steps", 3, "--res", 64, *quick)
    assert done.exit_code == 0, done.stderr
    output = xbd_tree.with_name("xbd-changen")
    assert done.stdout == f"{output}\n"
    rows = [json.loads(line) for line in (output / "train" / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert {(row["dates"], row["height"], row["width"]) for row in rows} == {(4, 64, 64)}
    assert "8 samples from 8 scenes" in done.stderr
    assert f"Look at {output / 'preview.png'}" in done.stderr
    # A second run has nothing to do, and one with other settings replaces the first when told to.
    again = run("generate", "--input", xbd_tree, "--steps", 3, "--res", 64, *quick)
    assert (again.exit_code, again.stdout) == (0, f"{output}\n")
    assert "Nothing to do: 8 samples are there" in again.stderr
    other = run("generate", "--input", xbd_tree, "-q", *quick)
    assert other.exit_code == 1
    assert one_line(other.stderr) and "events.steps was 3, is 1" in other.stderr and "--mode overwrite" in other.stderr
    assert other.stdout == ""
    replaced = run("generate", "--input", xbd_tree, "--overwrite", "--limit", 1, "--quiet", *quick)
    assert replaced.exit_code == 0
    assert len((output / "train" / "metadata.jsonl").read_text().splitlines()) == 1


def test_every_option_reaches_the_recipe(pairs_tree, tmp_path, model_file) -> None:
    out = tmp_path / "here"
    matrix = tmp_path / "paving.yaml"
    matrix.write_text("growth: 0.9\nrates:\n  background: {road: 0.1}\n")
    done = run(
        "generate", "-i", pairs_tree, "-o", out, "--steps", 2, "--dates", "2018, 2020-06,2023-01-15", "--res", 96, "--layout", "pairs",
        "--classes", "background, building, road", "--bands", "3,2,1", "--upsample", "--limit", 1,
        "--proposals", "none", "--sam-model", "some/sam",
        "--max-skipped", "30%", "--source-license", "CC BY 4.0,odbl", "--events", "create,transition,damage", "--transitions", matrix, "--disaster", "fire", "--rebuild", "10%", "--rates", "create=2%", "--surfaces", "background", "--change-area", "3-5%", "--negatives", "10%", "--variants", 2,
        "--seed", 9, "-m", model_file, "--scheduler", "ddim", "--inference-steps", 3, "--start", "noise",
        "--strength", 0.4, "--guidance-ratio", 0.5, "--extent", "full", "--nuisance", "none", "--no-gate", "--retries", 5, "--batch-size", 1,
        "--device", "cpu", "--dtype", "float32", "--threads", 1, "--format", "parquet", "--overwrite", "-q",
        "--shard-size", 3, "--max-failed", "5%", "--time-budget", "1h30m", "--disk-budget", "1.5GB",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    recipe = json.loads((out / "manifest.json").read_text())["recipe"]
    assert recipe == {
        "version": 1, "seed": 9, "variants": 2, "limit": 1,
        "source": {
            "input": str(pairs_tree), "layout": "pairs", "classes": ["background", "building", "road"], "res": 96,
            "upsample": True, "bands": [3, 2, 1], "proposals": "none", "sam_model": "some/sam", "max_skipped": 0.3,
            "license": ["cc-by-4.0", "odbl"],
        },
        "events": {
            "kinds": ["create", "transition", "damage"], "disaster": "fire", "rebuild": 0.1, "rates": {"create": 0.02}, "surfaces": ["background"], "dates": ["2018", "2020-06", "2023-01-15"], "steps": 2, "change_area": [0.03, 0.05], "negatives": 0.1, "min_area_px": 64,
            "transitions": {
                "name": "paving", "description": "", "rates": {"background": {"road": 0.1}}, "growth": 0.9, "moves": [],
                "boost": 0.0, "sizes_px": None, "sizes_m2": None, "change_area": None,
            },
        },
        "synthesis": {
            "model": str(model_file), "vae": None, "scheduler": "ddim", "inference_steps": 3, "start": "noise", "strength": 0.4,
            "guidance_ratio": 0.5, "guidance_scale": 1.0, "extent": "full", "nuisance": "none", "keep_date0": False,
        },
        "gate": {
            "enabled": False, "retries": 5, "tolerance": 0.25, "visible": 12.0, "seam": 3.0, "sharpness": 5.0, "grain": 3.0, "colour": 90.0,
            "saturated": 0.5, "agreement": 0.1, "area": 0.9,
        },
        "output": {"path": str(out), "format": "parquet", "mode": "overwrite", "push": None},
        "run": {"batch_size": 1, "device": "cpu", "dtype": "float32", "threads": 1, "workers": None, "executor": "local", "ray_address": None, "gpus_per_worker": None, "rank": None, "world_size": None,
            "shard_size": 3, "max_failed": 0.05, "time_budget": 5400.0, "disk_budget": 1_500_000_000,
        },
    }  # fmt: skip
    assert list((out / "data").iterdir())


def test_json_and_quiet(xbd_tree, tmp_path, quick) -> None:
    done = run("generate", "-i", xbd_tree, "-o", tmp_path / "out", "--json", "--quiet", *quick)
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    said = json.loads(done.stdout)
    assert said["output"] == str(tmp_path / "out")
    assert (said["samples"], said["scenes"], said["skipped"], said["failed"]) == (2, 2, 0, 0)
    assert Path(said["preview"]).is_file()
    quiet = run("generate", "-i", xbd_tree, "-o", tmp_path / "other", "--quiet", *quick)
    assert (quiet.stdout, quiet.stderr) == (f"{tmp_path / 'other'}\n", "")
    loud = run("generate", "-i", xbd_tree, "-o", tmp_path / "third", "--json", *quick)
    assert json.loads(loud.stdout)["samples"] == 2, "progress must not get into stdout"
    assert "exemplar library: 16 buildings" in loud.stderr


def test_dry_run_writes_nothing(xbd_tree, quick) -> None:
    done = run("generate", "-i", xbd_tree, "--steps", 2, "--dry-run", *quick)
    assert done.exit_code == 0, done.stderr
    assert "2 images would give about 2 samples of 3 dates" in done.stdout
    assert not xbd_tree.with_name("xbd-changen").exists()
    said = json.loads(run("generate", "-i", xbd_tree, "--dry-run", "--json", "-q", *quick).stdout)
    assert (said["images"], said["samples"], said["device"]) == (2, 2, "cpu")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--input", "{tree}", "--model", "nonesuch"], 1, "nonesuch"),
        (["--input", "{tree}", "--events", "transition", "--transitions", "floods"], 2, "did you mean flood?"),
        (
            ["--input", "{tree}", "--events", "transition", "--transitions", "flood"],
            2,
            "none of them is between classes",
        ),
        (["--input", "{tree}", "--transitions", "flood"], 2, "no effect without the event kind"),
        (["--input", "{tree}", "--disaster", "flood"], 2, "--disaster has no effect without the event kind"),
        (["--input", "{tree}", "--rebuild", "20%"], 2, "Add it: --events damage"),
        (["--input", "{tree}", "--events", "damage", "--rebuild", "lots"], 2, "events.rebuild"),
        (["--input", "{tree}", "--model", "{broken}"], 1, "no model file"),
        (["--input", "{tree}", "--output", "{tree}"], 1, "input folder"),
        (["--input", "{tree}", "--output", "{broken}/sub"], 1, "broken"),
        (["--input", "{tree}/none"], 2, "none"),
        (["--input", "{empty}"], 2, "empty"),
        (["--input", "{tree}", "--change-area", "lots"], 2, "events.change_area"),
        (["--input", "{tree}", "--change-area", "50-10%"], 2, "share range"),
        (["--input", "{tree}", "--negatives", "120%"], 2, "events.negatives"),
        (["--input", "{tree}", "--events", "demolish"], 2, "events.kinds"),
        (["--input", "{tree}", "--strength", "1.5"], 2, "synthesis.strength"),
        (["--input", "{tree}", "--steps", "0"], 2, "events.steps"),
        (["--input", "{tree}", "--dates", "2020,2018"], 2, "--dates): dates ascend"),
        (["--input", "{tree}", "--dates", "2018"], 2, "two dates or more"),
        (["--input", "{tree}", "--dates", "2018,spring"], 2, "'spring' is no date"),
        (["--input", "{tree}", "--dates", "2018,2019", "--steps", "2"], 2, "Leave out --steps"),
        (["--input", "{tree}", "--bands", "a,b,c"], 2, "source.bands"),
        (["--input", "{tree}", "--res", "3"], 2, "source.res"),
        (["--input", "{tree}", "--device", "cuda:99"], 2, "--device cpu"),
        (["--input", "{tree}", "--max-skipped", "2"], 2, "source.max_skipped"),
    ],
)
def test_errors_are_one_line(xbd_tree, tmp_path, quick, arguments, code, says) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").write_bytes(b"no model")
    names = {"tree": xbd_tree, "empty": tmp_path / "empty", "broken": tmp_path / "broken"}
    done = run("generate", "-q", *quick, *(text.format(**names) for text in arguments))
    assert done.exit_code == code
    assert one_line(done.stderr), done.stderr
    assert says in done.stderr
    assert done.stdout == ""
    assert not xbd_tree.with_name("xbd-changen").exists()


@pytest.mark.parametrize(
    "arguments", [["generate"], ["generate", "--input", "x", "--steps", "two"], ["generate", "--nope"], ["nope"]]
)
def test_what_typer_refuses_ends_with_two(arguments) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def test_too_many_broken_scenes_end_with_three(pairs_tree, tmp_path, quick) -> None:
    (pairs_tree / "images" / "s0.png").write_bytes(b"broken")
    names = ["--classes", "background,building,road", "-o", tmp_path / "out"]
    done = run("generate", "-i", pairs_tree, "-q", *names, *quick)
    assert done.exit_code == 3
    assert one_line(done.stderr) and "--max-skipped" in done.stderr
    allowed = run("generate", "-i", pairs_tree, "--mode", "overwrite", "--max-skipped", "50%", *names, *quick)
    assert allowed.exit_code == 0
    assert "1 scenes skipped, 1 of them broken" in allowed.stderr


def test_an_interrupt_ends_with_130(xbd_tree, tmp_path, quick, monkeypatch) -> None:
    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "synthesise_batch", interrupt)
    done = run("generate", "-i", xbd_tree, "-o", tmp_path / "out", "-q", *quick)
    assert done.exit_code == 130
    assert done.stderr == "Interrupted. What was finished is kept.\n"
    assert not (tmp_path / "out").exists(), "nothing was finished yet"


def test_debug_shows_the_traceback(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CHANGEN_DEBUG", "1")
    done = run("info", tmp_path)
    assert done.exit_code != 0
    assert type(done.exception).__name__ == "OutputError"


def test_bugs_are_not_swallowed(xbd_tree, tmp_path, quick, monkeypatch) -> None:
    def broken(*given: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(workflow, "synthesise_batch", broken)
    done = run("generate", "-i", xbd_tree, "-o", tmp_path / "out", "-q", *quick)
    assert isinstance(done.exception, ZeroDivisionError)


def test_version_and_help() -> None:
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"changen {__version__}\n")
    shown = run("-h")
    assert shown.exit_code == 0
    for command in ("generate", "simulate", "preview", "train", "info", "sample"):
        assert command in shown.stdout


def test_info(xbd_tree, tmp_path, quick) -> None:
    out = tmp_path / "out"
    assert run("generate", "-i", xbd_tree, "-o", out, "--seed", 4, "-q", *quick).exit_code == 0
    done = run("info", out)
    assert done.exit_code == 0
    said = dict(line.split(None, 1) for line in done.stdout.splitlines() if not line.startswith("made with"))
    assert said["status"] == "complete"
    assert said["samples"] == "2, each of 2 dates"
    assert said["seed"] == "4"
    assert said["model"] == "tiny.safetensors (CC0-1.0)"
    assert said["classes"] == "0 background, 1 building"
    manifest = json.loads(run("info", out, "--json").stdout)
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert said["fingerprint"] == manifest["fingerprint"]
    missing = run("info", tmp_path / "nowhere")
    assert missing.exit_code == 1
    assert one_line(missing.stderr)


def test_sample_unpacks_and_dry_runs(tmp_path, quick) -> None:
    folder = tmp_path / "sample"
    done = run("sample", folder)
    assert done.exit_code == 0
    assert done.stdout == f"{folder}\n"
    assert f"changen generate --input {folder}" in done.stderr
    again = run("sample", folder)
    assert again.exit_code == 1 and one_line(again.stderr)
    planned = run("generate", "-i", folder, "--dry-run", "--json", "-q", "--strength", 0, *quick)
    assert json.loads(planned.stdout)["samples"] == 3


def test_train(xbd_tree, tmp_path, monkeypatch) -> None:
    from conftest import TINY

    from changen_cli.training import sizes

    monkeypatch.setattr(sizes, "MINI", TINY)
    options = ["--input", xbd_tree, "--output", tmp_path / "model", "--batch-size", 2, "--crop-size", 32]
    options += ["--device", "cpu", "--threads", 1, "--max-images"]
    done = run("train", *options, 20)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'model'}\n"
    assert "2 tiles\n" in done.stderr
    assert "1 of 1 places kept out" in done.stderr
    assert "20/20 images" in done.stderr
    taken = run("train", *options, 20)
    assert taken.exit_code == 2 and one_line(taken.stderr.splitlines(keepends=True)[-1]) and "--resume" in taken.stderr
    assert run("train", *options, 40, "--resume").exit_code == 0
    used = run("generate", "-i", xbd_tree, "-m", tmp_path / "model", "--inference-steps", 4, "--threads", 1, "-q")
    assert used.exit_code == 0, used.stderr
    uneven = run("train", "-i", xbd_tree, "-i", xbd_tree, "-o", tmp_path / "b", "--classes", "a,b", "--classes", "-",
                 "--classes", "c,d")  # fmt: skip
    assert uneven.exit_code == 2 and one_line(uneven.stderr)


def test_simulate_as_typed(xbd_tree, tmp_path) -> None:
    out = tmp_path / "masks"
    arguments = ["simulate", "-i", xbd_tree, "-o", out, "--dates", "2018,2019-06,2021", "--change-area", "3-5%"]
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (0, f"{out}\n"), done.stderr
    assert "2 samples from 2 scenes" in done.stderr and f"Look at {out / 'preview.png'}" in done.stderr
    assert not (out / "train" / "images").exists()
    said = run("info", out).stdout
    assert "2, each of 3 dates: 2018, 2019-06, 2021" in said and "none, only masks" in said
    assert "model" not in said
    assert "Nothing to do" in run(*arguments).stderr
    assert run(*arguments, "-q").stderr == ""
    loud = run(*arguments, "--overwrite", "--json", "--limit", 1)
    assert json.loads(loud.stdout)["samples"] == 1


def test_preview_as_typed(xbd_tree, tmp_path) -> None:
    sheet = tmp_path / "here" / "sheet.png"
    done = run("preview", xbd_tree, "--scene", "flood_00000001", "--count", 2, "--steps", 2, "-o", sheet, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said | {"steps_with_asked_area": 0} == {
        "sheet": str(sheet), "scene": "flood_00000001", "futures": 2, "steps": 4, "steps_with_asked_area": 0,
    }  # fmt: skip
    assert sheet.is_file()
    quiet = run("preview", xbd_tree, "--count", 1, "-o", sheet, "-q")
    assert (quiet.stdout, quiet.stderr) == (f"{sheet}\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["simulate", "-i", "{tree}/none"], 2, "none"),
        (["simulate", "-i", "{tree}", "--steps", "0"], 2, "events.steps"),
        (["simulate", "-i", "{tree}", "--output", "{tree}"], 1, "input folder"),
        (["simulate", "-i", "{tree}", "--events", "transition"], 2, "none of them is between classes"),
        (["preview", "{tree}/none"], 2, "does not exist"),
        (["preview", "{tree}", "--scene", "x"], 2, "has no scene x"),
        (["preview", "{tree}", "--output", "{tree}/images/x.png"], 2, "take it for an image"),
        (["preview", "{tree}", "--output", "x.pdf"], 2, "no PNG"),
        (["preview", "{tree}", "--dates", "2019,2018"], 2, "dates ascend"),
        (["preview", "{tree}/images/flood_00000000_pre_disaster.png", "--res", "512"], 2, "smaller than --res"),
    ],
)
def test_errors_of_masks_only_are_one_line(xbd_tree, arguments, code, says) -> None:
    done = run(*(text.format(tree=xbd_tree) for text in arguments), "-q")
    assert done.exit_code == code
    assert one_line(done.stderr), done.stderr
    assert says in done.stderr
    assert done.stdout == ""
