"""Runs that are cut off and taken up again give what an unbroken one gives; nothing is mixed, lost or made twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from PIL import Image

from changen_cli.core.errors import IncompleteError, OutputError
from changen_cli.core.shards import read_shards, record_path
from changen_cli.workflows.generate import generate
from changen_cli.workflows.progress import Silent
from changen_cli.workflows.simulate import simulate_dataset
from tests.conftest import picture, write_pairs

from .conftest import manifest, rows, tree
from .runs import Stop, Told, change, content, killed

SMALL = {"batch_size": 1, "shard_size": 2, "device": "cpu", "threads": 1}


@pytest.fixture
def masks(tmp_path, make_recipe):
    """A recipe over five scenes, for runs without images."""
    folder = write_pairs(tmp_path / "five", 5)
    return make_recipe(folder, output={"path": str(tmp_path / "out")}, run=SMALL)


def states(folder):
    """Inode and time of every file but the log, which tells of refusals, too."""
    return {
        p.relative_to(folder).as_posix(): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file() and p.name != "run.log"
    }


@pytest.mark.parametrize("layout", ["folder", "parquet"])
@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_interrupted_run_goes_on(layout, after, tmp_path, make_recipe) -> None:
    folder = write_pairs(tmp_path / "in", 5)
    (folder / "images" / "s1.png").write_bytes(b"broken")
    recipe = make_recipe(folder, source={"max_skipped": 0.5}, variants=2, run=SMALL, output={"format": layout})
    whole = change(recipe, output={"path": str(tmp_path / "whole" / "out")})
    generate(whole)
    broken = change(recipe, output={"path": str(tmp_path / "out")})
    with pytest.raises(KeyboardInterrupt):
        generate(broken, Stop(after))
    assert manifest(tmp_path / "out")["status"] == "interrupted"
    before = states(tmp_path / "out" / "train") if layout == "folder" else {}
    told = Told()
    result = generate(change(broken, run={"batch_size": 3, "shard_size": 16}), told)
    assert result.samples == 8 and not result.nothing_to_do
    assert content(tmp_path / "out") == content(tmp_path / "whole" / "out")
    assert not (tmp_path / "out" / ".staging").exists()
    after_it = states(tmp_path / "out" / "train") if layout == "folder" else {}
    kept = {name for name in before if name.startswith(("images/", "masks/"))}
    assert {name: after_it[name] for name in kept} == {name: before[name] for name in kept}, "nothing is made twice"
    assert any("samples are there" in note for note in told.notes)


def test_killed_at_any_moment_it_goes_on(tmp_path, make_recipe) -> None:
    kill_and_compare(tmp_path, make_recipe, kills=4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_killed_at_twenty_moments_it_goes_on(layout, tmp_path, make_recipe) -> None:
    kill_and_compare(tmp_path, make_recipe, kills=20, seed=2, format=layout)


def kill_and_compare(tmp_path, make_recipe, *, kills: int, seed: int, **output) -> None:
    folder = write_pairs(tmp_path / "in", 8)
    recipe = make_recipe(folder, variants=2, run=SMALL, output={"path": str(tmp_path / "whole" / "out"), **output})
    started = time.monotonic()
    assert not killed(recipe, 600)
    seconds = time.monotonic() - started
    draw, met = random.Random(seed), 0
    out = tmp_path / "out"
    while met < kills:
        if out.is_dir() and draw.random() < 0.25:
            (out / "manifest.json").unlink()  # begin anew now and then: a run that only ends is met nowhere else
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        met += killed(change(recipe, output={"path": str(out)}), draw.uniform(0, 0.8 * seconds))
    generate(change(recipe, output={"path": str(out)}, run={"batch_size": draw.randint(1, 5)}))
    assert content(out) == content(tmp_path / "whole" / "out")
    assert not list(out.rglob(".partial*")) and not (out / ".staging").exists() and not (out / ".lock").exists()


def test_a_finished_run_has_nothing_to_do(masks) -> None:
    simulate_dataset(masks)
    before = states(masks.output_path)
    result = simulate_dataset(masks)
    assert result.nothing_to_do and (result.samples, result.scenes) == (5, 5)
    assert result.preview == masks.output_path / "preview.png"
    assert states(masks.output_path) == before
    assert simulate_dataset(change(masks, limit=3)).nothing_to_do


def test_a_limit_may_be_raised(masks, tmp_path) -> None:
    simulate_dataset(change(masks, limit=2))
    assert len(rows(masks.output_path)) == 2
    assert simulate_dataset(masks).samples == 5
    whole = change(masks, output={"path": str(tmp_path / "whole" / "out")})
    simulate_dataset(whole)
    assert content(masks.output_path) == content(whole.output_path)


def test_tiles_of_one_image_are_not_made_twice(tmp_path, make_recipe) -> None:
    """An image may end up in several shards."""
    folder = write_pairs(tmp_path / "in", 2, size=192)
    recipe = make_recipe(folder, source={"res": 96}, output={"path": str(tmp_path / "out")}, run=SMALL)
    simulate_dataset(change(recipe, limit=3))
    simulate_dataset(change(recipe, limit=5))
    assert simulate_dataset(recipe).samples == 8
    whole = change(recipe, output={"path": str(tmp_path / "whole" / "out")})
    simulate_dataset(whole)
    assert content(recipe.output_path) == content(whole.output_path)
    assert sum(len(record.samples) for record in read_shards(recipe.output_path)) == 8


def test_another_recipe_is_refused_by_key(masks) -> None:
    simulate_dataset(masks)
    before = states(masks.output_path)
    other = change(masks, seed=7, variants=2, events={"steps": 2})
    with pytest.raises(OutputError, match=r"events.steps was 1, is 2; seed was 0, is 7; variants was 1, is 2") as error:
        simulate_dataset(other)
    assert "\n" not in str(error.value) and "--mode overwrite" in str(error.value)
    with pytest.raises(OutputError, match="already holds a dataset"):
        simulate_dataset(change(masks, output={"mode": "fail"}))
    assert states(masks.output_path) == before


def test_another_model_is_refused(masks, tmp_path, tiny_hybrid) -> None:
    from changen_cli.synthesis.models import save_model

    with pytest.raises(KeyboardInterrupt):
        generate(masks, Stop(2))
    path = tmp_path / "tiny.safetensors"
    save_model(tiny_hybrid(seed=5), path, images_seen=0)
    same_name = masks.model_copy(update={"synthesis": masks.synthesis.model_copy(update={"model": str(path)})})
    with pytest.raises(OutputError, match=r"recipe: synthesis\.model was"):
        generate(same_name)
    model = Path(masks.synthesis.model)
    before = model.read_bytes()
    try:
        model.write_bytes(path.read_bytes())
        with pytest.raises(OutputError, match=r"drawn by .* would be by"):
            generate(masks)
    finally:
        model.write_bytes(before)
    assert generate(masks).samples == 5


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_extend_adds_and_rewrites_nothing(layout, masks, tmp_path) -> None:
    recipe = change(masks, output={"format": layout})
    simulate_dataset(recipe)
    out, folder = recipe.output_path, tmp_path / "five"
    kept = ("train/masks/", "train/changes/", "train/events/", "shards/0", "data/")
    before, hashes = states(out), tree(out)
    assert simulate_dataset(recipe).nothing_to_do
    image, numbers = picture(9)
    Image.fromarray(image).save(folder / "images" / "a0.png")  # sorts before all others
    Image.fromarray((numbers > 0).astype("uint8")).save(folder / "masks" / "a0.png")
    assert simulate_dataset(recipe).nothing_to_do
    more = change(recipe, output={"mode": "extend"})
    assert simulate_dataset(more).samples == 6
    assert simulate_dataset(change(more, variants=2)).samples == 12
    assert simulate_dataset(change(more, variants=2)).samples == 12, "nothing is left to add"
    with pytest.raises(OutputError, match="variants was 2, is 1"):
        simulate_dataset(more)
    now = states(out)
    old = {name: state for name, state in before.items() if name.startswith(kept) and ".preview" not in name}
    if layout == "folder":
        assert {name: now[name] for name in old} == old
        assert [row["image_name"] for row in rows(out)] == sorted(row["image_name"] for row in rows(out))
    else:
        shards = sorted((out / "data").iterdir())
        assert [path.name for path in shards] == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
        first = tree(out)["data/train-00000-of-00003.parquet"]
        assert first == hashes["data/train-00000-of-00001.parquet"]
    assert manifest(out)["counts"] == {"samples": 12, "scenes": 6, "skipped": 0, "failed": 0}
    assert manifest(out)["recipe"]["variants"] == 2

    from changen_cli.exports.check_master import check_master

    assert not [finding for finding in check_master(out) if finding.severity == "error"]


def test_a_source_that_changed_is_told(masks, tmp_path) -> None:
    recipe = masks.model_copy(update={"events": masks.events.model_copy(update={"kinds": ("remove",)})})
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(recipe, Stop(4))
    images = tmp_path / "five" / "images"
    Image.fromarray(picture(77)[0]).save(images / "s0.png")
    (images / "s1.png").unlink()
    touched = (images / "s2.png").read_bytes()
    (images / "s2.png").write_bytes(touched)  # another time, the same bytes
    told = Told()
    assert simulate_dataset(recipe, told).samples == 5
    assert manifest(recipe.output_path)["changed"] == {"images/s0.png": "changed", "images/s1.png": "vanished"}
    assert sum("after something was made of them" in note for note in told.notes) == 2


@pytest.mark.parametrize("how", ["changed", "is gone"])
def test_the_library_stays_the_same_or_nothing_is_made(how, masks, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(masks, Stop(2))
    path = tmp_path / "five" / "images" / "s4.png"
    kept = path.read_bytes()
    path.unlink() if how == "is gone" else Image.fromarray(picture(77)[0]).save(path)
    before = states(masks.output_path)
    with pytest.raises(OutputError, match=f"s4.png {how}"):
        simulate_dataset(masks)
    assert states(masks.output_path) == before
    path.write_bytes(kept)
    assert simulate_dataset(masks).samples == 5


def test_an_image_that_was_broken_is_tried_again(masks, tmp_path) -> None:
    path = tmp_path / "five" / "images" / "s1.png"
    good = path.read_bytes()
    path.write_bytes(b"broken")
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(masks, Stop(4))
    path.write_bytes(good)
    assert simulate_dataset(masks).samples == 5
    assert manifest(masks.output_path)["skipped"] == []


def test_a_broken_record_is_made_again(masks, tmp_path) -> None:
    simulate_dataset(masks)
    before = content(masks.output_path)
    record_path(masks.output_path, 1).write_text('{"number": 1, "cou')
    text = (masks.output_path / "manifest.json").read_text()
    (masks.output_path / "manifest.json").write_text(text.replace('"complete"', '"running"'))
    told = Told()
    assert simulate_dataset(masks, told).samples == 5
    assert any("1 records of shards cannot be read, e.g. 00001" in note for note in told.notes)
    assert content(masks.output_path) == before


@pytest.mark.parametrize(
    "run", [{"shard_size": 1}, {"shard_size": 3, "batch_size": 2}, {"shard_size": 16, "workers": 2}]
)
def test_shards_batches_and_workers_change_no_byte(run, masks, tmp_path) -> None:
    recipe = change(masks, variants=2)
    simulate_dataset(recipe)
    other = change(recipe, run=run, output={"path": str(tmp_path / "other" / "out")})
    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(other, Stop(3))
    simulate_dataset(other)
    assert content(other.output_path) == content(recipe.output_path)


class Breaks:
    """Stands in for the denoiser's forward pass: fails for one scene as long as it is told to."""

    def __init__(self, monkeypatch, error: Exception | None) -> None:
        from changen_cli.synthesis.synthesiser import Synthesiser

        self.error, self.on, self.batches = error, True, []
        forward = Synthesiser.next_dates

        def broken(synthesiser, jobs, *rest):
            names = [job.scene_id for job in jobs]
            self.batches.append(len(names))
            if self.on and "s1" in names and self.error is not None:
                raise self.error
            return forward(synthesiser, jobs, *rest)

        monkeypatch.setattr(Synthesiser, "next_dates", broken)


@pytest.mark.parametrize("error", [MemoryError("too little"), RuntimeError("CUDA error:\nout of memory")])
def test_a_sample_that_fails_is_tried_alone_noted_and_tried_again(error, tmp_path, make_recipe, monkeypatch) -> None:
    folder = write_pairs(tmp_path / "in", 4)
    recipe = make_recipe(folder, output={"path": str(tmp_path / "out")}, run=SMALL | {"batch_size": 2})
    whole = change(recipe, output={"path": str(tmp_path / "whole" / "out")})
    generate(whole)
    breaks = Breaks(monkeypatch, error)
    with pytest.raises(IncompleteError, match=r"1 of 4 samples failed, more than --max-failed 1%; s1_v00: \w+Error: "):
        generate(recipe)
    assert breaks.batches == [2, 1, 1, 2]
    assert [row["image_name"] for row in rows(tmp_path / "out")] == ["s0_v00", "s2_v00", "s3_v00"]
    assert manifest(tmp_path / "out")["counts"]["failed_samples"] == 1
    (note,) = manifest(tmp_path / "out")["skipped"]
    assert note["sample"] == "s1_v00" and "\n" not in note["reason"]
    result = generate(change(recipe, run={"max_failed": 0.5}))
    assert result.samples == 3 and list(result.failed_samples) == ["s1_v00"]
    breaks.on = False
    assert generate(recipe).samples == 4
    assert content(tmp_path / "out") == content(whole.output_path)
    assert generate(recipe).nothing_to_do


def test_a_model_that_gives_no_numbers_fails_its_sample(tmp_path, make_recipe, monkeypatch) -> None:
    from changen_cli.synthesis.synthesiser import Synthesiser

    forward = Synthesiser._forward

    def nothing(synthesiser, chunk, size):
        return [patch * float("nan") for patch in forward(synthesiser, chunk, size)]

    monkeypatch.setattr(Synthesiser, "_forward", nothing)
    recipe = make_recipe(write_pairs(tmp_path / "in", 1), output={"path": str(tmp_path / "out")})
    with pytest.raises(IncompleteError, match=r"no sample could be made .*s0_v00: BrokenImageError: .*no numbers"):
        generate(recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("budget", [{"time_budget": 1e-3}, {"disk_budget": 1}])
def test_a_budget_stops_at_the_end_of_a_shard(budget, masks, tmp_path) -> None:
    made = []
    for _ in range(2):
        with pytest.raises(IncompleteError, match=r"is used up: .* Run the same command again") as error:
            simulate_dataset(change(masks, run=budget))
        assert error.value.exit_code == 3
        made.append(len(rows(masks.output_path)))
        assert manifest(masks.output_path)["status"] == "interrupted"
    assert made == [2, 4], "every run makes a shard at least"
    assert simulate_dataset(change(masks, run=budget)).samples == 5, "the last shard is no reason to stop"
    whole = change(masks, output={"path": str(tmp_path / "whole" / "out")})
    simulate_dataset(whole)
    assert content(masks.output_path) == content(whole.output_path)


def test_a_full_disk_loses_a_shard_at_most(masks, tmp_path, monkeypatch) -> None:
    from changen_cli.writers import staging

    put, count = staging.Staging.put, []

    def full(self, *arguments):
        count.append(1)
        if len(count) == 4:
            raise OSError(28, "No space left on device")
        put(self, *arguments)

    monkeypatch.setattr(staging.Staging, "put", full)
    with pytest.raises(OutputError, match=r"out cannot be written to: No space left .* Make room and run the same"):
        simulate_dataset(masks)
    assert manifest(masks.output_path)["status"] == "failed"
    assert len(list((masks.output_path / "train" / "events").iterdir())) == 2
    assert simulate_dataset(masks).samples == 5
    whole = change(masks, output={"path": str(tmp_path / "whole" / "out")})
    simulate_dataset(whole)
    assert content(masks.output_path) == content(whole.output_path)


def test_an_older_dataset_is_left_alone(masks) -> None:
    import shutil

    simulate_dataset(masks)
    shutil.rmtree(masks.output_path / "shards")
    text = (masks.output_path / "manifest.json").read_text()
    cut = text[: text.index(',\n "closed"')] + text[text.index(',\n "checksums"') :]
    (masks.output_path / "manifest.json").write_text(cut)
    assert simulate_dataset(masks).nothing_to_do
    (masks.output_path / "manifest.json").write_text(cut.replace('"complete"', '"interrupted"'))
    with pytest.raises(OutputError, match="cannot be taken up again"):
        simulate_dataset(masks)


def test_progress_counts_what_is_there(masks) -> None:
    class Seen(Silent):
        def __init__(self) -> None:
            self.scenes: list[tuple[int, int]] = []

        def scene(self, images_done: int, samples_done: int) -> None:
            self.scenes.append((images_done, samples_done))

    with pytest.raises(KeyboardInterrupt):
        simulate_dataset(masks, Stop(4))
    seen = Seen()
    simulate_dataset(masks, seen)
    assert seen.scenes[-1] == (5, 5) and seen.scenes[0][1] >= 3
