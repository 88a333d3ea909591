"""``changen validate`` as people type it: what it prints, what it answers, how it finds out what a folder is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from changen_cli.cli.app import app
from changen_cli.core.errors import UsageError
from changen_cli.workflows import validate as workflow
from changen_cli.workflows.generate import generate
from changen_cli.workflows.validate import find_layout, validate


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


@pytest.fixture
def dataset(xbd_tree, tmp_path, make_recipe) -> Path:
    out = tmp_path / "out"
    generate(make_recipe(xbd_tree, output={"path": str(out)}, synthesis={"strength": 0}))
    return out


def test_a_sound_dataset(dataset) -> None:
    done = run(dataset)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith(f"{dataset}, as changen: no errors, no warnings\n")
    assert json.loads(run(dataset, "--json", "-q").stdout) == {
        "folder": str(dataset), "layout": "changen", "findings": [], "errors": 0, "warnings": 0,
    }  # fmt: skip


def test_findings_name_file_and_fix(dataset) -> None:
    (dataset / "train/masks/flood_00000001_pre_disaster_v00_t1.png").unlink(missing_ok=True)
    masks = sorted((dataset / "train/masks").iterdir())
    for path in masks:
        path.unlink()
    (dataset / "README.md").unlink()
    done = run(dataset)
    assert done.exit_code == 1
    for path in masks:
        (line,) = [line for line in done.stdout.splitlines() if path.name in line]
        assert f"train/masks/{path.name}" in line and "is missing" in line and "make the dataset again" in line
    assert "warning" in done.stdout and "README.md" in done.stdout
    assert f"{len(masks)} errors, 1 warning" in done.stderr
    short = run(dataset, "--limit", 2, "-q")
    assert short.exit_code == 1
    assert sum(path.name in short.stdout for path in masks) == 1, "the card comes first"
    assert f"{len(masks) - 1} more are not shown; see them with --limit {len(masks) + 1} or --json" in short.stderr
    said = json.loads(run(dataset, "--json", "--limit", 1).stdout)
    assert (said["errors"], said["warnings"], len(said["findings"])) == (len(masks), 1, len(masks) + 1)
    assert {"file", "message", "fix", "severity"} == set(said["findings"][0])


def test_warnings_alone_are_no_failure(dataset) -> None:
    (dataset / "README.md").unlink()
    done = run(dataset, "-q")
    assert done.exit_code == 0 and "no errors, 1 warning" in done.stderr


def test_only_so_many_findings_are_kept(dataset, monkeypatch) -> None:
    shutil.rmtree(dataset / "train/masks")
    monkeypatch.setattr(workflow, "KEPT", 1)
    found = validate(dataset)
    assert len(found.findings) == 1 and found.errors == 4


def test_the_folder_says_what_it_is(dataset, tmp_path) -> None:
    assert find_layout(dataset) == "changen"
    (dataset / "manifest.json").unlink()
    assert find_layout(dataset) == "changen", "its tables say so, too"
    (tmp_path / "export").mkdir()
    (tmp_path / "export/export.json").write_text('{"layout": "levir-cd"}')
    assert find_layout(tmp_path / "export") == "levir-cd"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{}/nowhere"], "is no folder"),
        (["{}"], "holds neither a dataset of changen nor an export of one. Say what it should be: --as LAYOUT"),
        (["{}", "--as", "nonsense"], "--as nonsense is not known"),
    ],
)
def test_bad_requests_are_one_line(tmp_path, arguments, said) -> None:
    done = run(*(argument.format(tmp_path) for argument in arguments))
    assert done.exit_code == 2 and said in done.stderr
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def test_from_python(tmp_path) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        validate(tmp_path / "nowhere")
