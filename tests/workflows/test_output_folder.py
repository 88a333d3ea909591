"""What a run refuses, what it may write to, and what an interrupted one leaves behind."""

from __future__ import annotations

import pytest

from changen_cli.core.errors import ModelError, OutputError, UsageError
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent

from .conftest import load, manifest, rows, tree


def test_an_unlabelled_folder_is_refused_without_proposals(photos, tmp_path, make_recipe) -> None:
    with pytest.raises(UsageError, match="without masks"):
        generate(make_recipe(photos, source={"proposals": "none"}, output={"path": str(tmp_path / "out")}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["model", "device", "input"])
def test_bad_requests_write_nothing(xbd_tree, tmp_path, make_recipe, wrong) -> None:
    out = tmp_path / "out"
    sections = {
        "model": {"synthesis": {"model": str(tmp_path / "none.safetensors")}},
        "device": {"run": {"device": "cuda:99"}},
        "input": {"source": {"input": str(tmp_path / "nowhere")}},
    }[wrong]
    kind = {"model": ModelError, "device": UsageError, "input": UsageError}[wrong]
    with pytest.raises(kind) as error:
        generate(make_recipe(xbd_tree, output={"path": str(out)}, **sections))
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_a_model_of_latents_is_refused(xbd_tree, tmp_path, make_recipe, tiny_rsdit) -> None:
    from changen_cli.synthesis.models import save_model

    save_model(tiny_rsdit(), tmp_path / "latent.safetensors")
    with pytest.raises(ModelError, match="latents"):
        generate(make_recipe(xbd_tree, synthesis={"model": str(tmp_path / "latent.safetensors")}))


@pytest.mark.parametrize("there", ["file", "stranger", "manifest", "dataset"])
@pytest.mark.parametrize("mode", ["resume", "extend", "fail", "overwrite"])
def test_what_may_be_written_to(xbd_tree, tmp_path, make_recipe, there, mode) -> None:
    out = tmp_path / "out"
    recipe = make_recipe(xbd_tree, output={"path": str(out), "mode": mode}, limit=1)
    if there == "file":
        out.write_text("mine")
    elif there == "stranger":
        (out / "train").mkdir(parents=True)
        (out / "train" / "thesis.txt").write_text("mine")
    elif there == "manifest":
        # A web application has a manifest.json too, and a README, and data.
        (out / "data").mkdir(parents=True)
        (out / "data" / "thesis.txt").write_text("mine")
        (out / "manifest.json").write_text('{"name": "app", "icons": []}')
    else:
        generate(make_recipe(xbd_tree, output={"path": str(out)}, seed=5))
        (out / "notes.txt").write_text("mine")
    before = tree(out) if out.is_dir() else out.read_text()
    if there == "dataset" and mode == "overwrite":
        generate(recipe)
        assert len(rows(out)) == 1
        assert len(list((out / "train" / "images").iterdir())) == 2, "the earlier run's files are gone"
        assert (out / "notes.txt").read_text() == "mine"
        return
    with pytest.raises(OutputError) as error:
        generate(recipe)
    assert "\n" not in str(error.value)
    assert before == (tree(out) if out.is_dir() else out.read_text())


@pytest.mark.parametrize("where", [".", "..", "../.."])
def test_the_output_never_holds_the_input(xbd_tree, make_recipe, where) -> None:
    before = tree(xbd_tree)
    with pytest.raises(OutputError, match="input folder"):
        generate(make_recipe(xbd_tree, output={"path": str(xbd_tree / where), "mode": "overwrite"}))
    assert tree(xbd_tree) == before


class Stop(Silent):
    """Interrupts a run, or breaks it, once a number of samples is finished."""

    def __init__(self, error: BaseException, after: int = 1) -> None:
        self.error, self.after = error, after

    def scene(self, images_done: int, samples_done: int) -> None:
        if images_done > self.after:
            raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "interrupted"), (RuntimeError("broken"), "failed")]
)
def test_what_was_finished_is_kept(pairs_tree, tmp_path, make_recipe, error, status) -> None:
    out = tmp_path / "out"
    recipe = make_recipe(pairs_tree, output={"path": str(out)}, run={"batch_size": 1, "device": "cpu", "threads": 1})
    with pytest.raises(type(error)):
        generate(recipe, Stop(error))
    listed = rows(out)
    assert len(listed) == 2
    assert manifest(out)["status"] == status
    assert manifest(out)["counts"]["samples"] == 2
    for row in listed:
        assert load(out, row["t2_image_file_name"]).shape == (128, 128, 3)
    files = {path.stem for path in (out / "train" / "images").iterdir()}
    assert files == {f"{row['image_name']}_t{t}" for row in listed for t in (0, 1)}
    assert not list(out.rglob(".partial*")) and not (out / ".staging").exists()
    # It may be replaced, and its finished samples are those of an unbroken run.
    kept = tree(out / "train", leave_out=("metadata.jsonl",))
    generate(recipe.model_copy(update={"output": recipe.output.model_copy(update={"mode": "overwrite"})}))
    assert kept.items() <= tree(out / "train").items()
    assert manifest(out)["status"] == "complete"


def test_interrupted_before_the_first_sample(pairs_tree, tmp_path, make_recipe) -> None:
    out = tmp_path / "out"

    class Now(Silent):
        def windows(self, done: int, total: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(make_recipe(pairs_tree, output={"path": str(out)}), Now())
    assert not out.exists(), "nothing made, nothing left"
