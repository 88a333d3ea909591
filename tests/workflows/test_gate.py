"""The quality gate in runs: what is rejected is drawn again, then dropped and counted, and no byte depends on how."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from changen_cli.core.errors import IncompleteError, UsageError
from changen_cli.core.recipe_sections import GateSection
from changen_cli.core.shards import read_shards
from changen_cli.core.types import ClassSchema
from changen_cli.events import EventRules, collect_exemplars, simulate_series
from changen_cli.exports.check_master import check_master
from changen_cli.exports.master import open_master
from changen_cli.synthesis.gate import LabelCheck
from changen_cli.workflows import drawing as drawing_module
from changen_cli.workflows.gate import Gate, as_asked, meanings
from changen_cli.workflows.generate import generate
from changen_cli.workflows.plans import Plan
from changen_cli.workflows.replay import replay
from changen_cli.workflows.report_index import rejections
from changen_cli.workflows.status import dataset_status
from tests.conftest import write_pairs

from .conftest import manifest, rows, tree
from .houses import make_scene
from .runs import Stop, change, content

SCHEMA = ClassSchema()
HALF = {"visible": 77.0, "tolerance": 0.5, "retries": 1, "agreement": "none"}
"""What rejects about half of the attempts at :func:`~tests.conftest.write_pairs`."""


@pytest.fixture(scope="module")
def drawn():
    """A sample drawn without a model: its plan and its images."""
    from changen_cli.core.seeding import derive_rng
    from changen_cli.synthesis.synthesiser import DateJob, Synthesiser, SynthesisSettings

    scene = make_scene(3)
    library = collect_exemplars(scene, SCHEMA)
    rules = EventRules(SCHEMA, ("create", "remove"), (0.03, 0.05))
    series = simulate_series(
        scene, rules, steps=2, library=library, rng_for_step=lambda step: derive_rng(3, step), negative=False
    )
    synthesiser = Synthesiser(None, SynthesisSettings(strength=0), SCHEMA, library)
    images = [scene.image]
    for step in range(2):
        steps = slice(step, step + 2)
        events = [event for event in series.events if event.time_index == step]
        job = DateJob(images[-1], series.masks[steps], series.instances[steps], events, scene.id, 3, (scene.id, step))
        images += synthesiser.next_dates([job])
    return Plan(scene, 0, series, negative=False), np.stack(images)


def test_a_good_sample_passes_and_its_events_have_figures(drawn) -> None:
    plan, images = drawn
    verdict = Gate(GateSection()).judge(plan, images)
    assert verdict.reason == "" and not verdict.failed
    assert verdict.info["attempt"] == 0 and verdict.info["rejected"] == ""
    first, second = verdict.info["quality"]
    assert (first["step"], second["step"]) == (0, 1)
    assert first["measured"] > 0 and first["visible"] > 6 and first["agreement"] is None
    assert all(event.quality["visible"] > 0 for event in verdict.series.events)
    assert [event.polygon for event in verdict.series.events] == [event.polygon for event in plan.series.events]


def plant(fault: str, plan: Plan, images: np.ndarray) -> np.ndarray:
    """Spoil the last date."""
    rng = np.random.default_rng(0)
    spoilt = images.copy()
    changed = plan.series.masks[1] != plan.series.masks[2]
    if fault == "invisible":
        spoilt[2] = spoilt[1]
    elif fault == "seam":
        wide = ndimage.binary_dilation(changed, iterations=8)
        spoilt[2][wide] = np.clip(spoilt[2][wide].astype(int) + 90, 0, 255)
    else:
        values = {
            "sharpness": np.array((110, 110, 110)),
            "grain": rng.integers(80, 176, (int(changed.sum()), 3)),
            "saturated": np.array((255, 255, 255)),
            "colour": rng.integers(-9, 9, (int(changed.sum()), 3)) + np.array((240, 20, 240)),
        }
        spoilt[2][changed] = values[fault]
    return spoilt


@pytest.mark.parametrize("fault", ["invisible", "seam", "sharpness", "grain", "saturated", "colour"])
def test_every_planted_fault_is_rejected_for_its_own_reason(fault: str, drawn) -> None:
    plan, images = drawn
    verdict = Gate(GateSection()).judge(plan, plant(fault, plan, images))
    assert verdict.reason == fault
    assert {event.time_index for event in verdict.failed} == {1}
    assert verdict.info["quality"][0]["failed"] == 0
    off = {"visible" if fault == "invisible" else fault: "none"}
    assert Gate(GateSection.model_validate(off)).judge(plan, plant(fault, plan, images)).reason != fault


def test_labels_and_pixels_that_disagree_throughout_a_step_are_rejected(drawn) -> None:
    """Not where one of several is missed, as of real roofs too."""
    plan, images = drawn

    def predict(window: np.ndarray) -> np.ndarray:  # bright is building
        likely = np.where(window.mean(axis=-1) > 145, 0.9, 0.02).astype(np.float32)
        return np.stack([1 - likely, likely])

    labels = LabelCheck(predict, {0: ((1,), False), 1: ((1,), True)})
    good = Gate(GateSection(), labels).judge(plan, images)
    assert good.reason == "" and min(step["agreement"] for step in good.info["quality"]) > 0.5
    changed = plan.series.masks[1] != plan.series.masks[2]
    wrong = images.copy()
    gone = changed & (plan.series.masks[2] == 0)
    wrong[2][gone] = np.clip(wrong[1][gone].astype(int) + 90, 0, 255)
    wrong[2][changed & ~gone] = wrong[1][changed & ~gone] // 2
    off = dict.fromkeys(("seam", "sharpness", "grain", "colour", "visible"), "none")
    verdict = Gate(GateSection.model_validate(off), labels).judge(plan, wrong)
    assert verdict.reason == "agreement" and verdict.failed
    assert Gate(GateSection.model_validate(off | {"agreement": "none"}), labels).judge(plan, wrong).reason == ""
    event = next(event for event in plan.series.events if event.time_index == 1)
    rows, cols = slice(event.bbox[0], event.bbox[2]), slice(event.bbox[1], event.bbox[3])
    one = images.copy()
    one[2][rows, cols] = wrong[2][rows, cols]
    assert Gate(GateSection.model_validate(off), labels).judge(plan, one).reason == ""


def test_one_bad_event_among_many_is_tolerated_unless_it_is_saturated(drawn) -> None:
    plan, images = drawn
    event = min((event for event in plan.series.events if event.time_index == 1), key=lambda event: event.area_px)
    row0, col0, row1, col1 = event.bbox
    changed = plan.series.masks[1] != plan.series.masks[2]
    area = np.zeros_like(changed)
    area[row0:row1, col0:col1] = changed[row0:row1, col0:col1]
    for value, reason in ((images[1][area], ""), (255, "saturated")):
        spoilt = images.copy()
        spoilt[2][area] = value
        verdict = Gate(GateSection(tolerance=0.6)).judge(plan, spoilt)
        assert verdict.reason == reason and len(verdict.failed) == 1


def test_far_less_change_than_asked_is_no_sample(drawn, xbd_tree, make_recipe) -> None:
    plan, _ = drawn
    recipe = make_recipe(xbd_tree)
    assert as_asked(plan, recipe)
    reports = tuple(replace(report, reached=report.asked * 0.05) for report in plan.series.reports)
    little = replace(plan, series=replace(plan.series, reports=reports))
    assert not as_asked(little, recipe)
    assert as_asked(replace(little, negative=True), recipe)
    assert as_asked(little, change(recipe, gate={"area": "none"}))


def test_classes_the_segmenter_knows() -> None:
    assert meanings(SCHEMA) == {0: ((7,), False), 1: ((7,), True)}
    assert meanings(ClassSchema(("no object", "object"), class_agnostic=True)) == {}
    damage = meanings(ClassSchema(("background", "no-damage", "minor-damage", "major-damage", "destroyed")))
    assert set(damage) == {0, 1}, "it never saw damage"
    cover = meanings(ClassSchema(("unlabelled", "building", "land", "vegetation", "cloud")))
    assert 0 not in cover and cover[2] == ((0,), True) and cover[3] == ((1, 4, 6), True) and cover[4] == ((7,), False)


@pytest.fixture
def gated(tmp_path, make_recipe):
    """A run that needs no model and of which about half is rejected."""
    folder = write_pairs(tmp_path / "in", 6, size=96)
    return make_recipe(
        folder, synthesis={"strength": 0, "nuisance": "mild"}, gate={"enabled": True, **HALF}, variants=2,
        output={"path": str(tmp_path / "out")}, run={"batch_size": 1, "shard_size": 2, "device": "cpu", "threads": 1},
    )  # fmt: skip


def dropped(out) -> dict[str, list[str]]:
    return {name: reasons for record in read_shards(out) for name, reasons in record.rejected.items()}


@pytest.mark.parametrize("layout", ["folder", "parquet"])
def test_rejections_are_recorded_and_change_with_nothing(layout, gated, tmp_path, monkeypatch) -> None:
    whole = change(gated, output={"format": layout})
    result = generate(whole)
    out = whole.output_path
    gone = dropped(out)
    assert 2 <= len(gone) <= 8 and all(reasons == ["invisible"] * 2 for reasons in gone.values())
    assert (
        result.samples + len(gone) == 12 and result.rejected == {"invisible": len(gone)} and not result.failed_samples
    )
    told = manifest(out)
    assert told["counts"]["rejected_samples"] == len(gone) and told["counts"]["samples"] == result.samples
    assert {skip["sample"] for skip in told["skipped"]} == set(gone)
    made = [row for row, _ in open_master(out).logs()]
    again = sum(row["attempt"] for row in made)
    assert again, "some pass at the second attempt"
    assert told["statistics"]["rejected"] == {"invisible": len(gone)}
    assert told["statistics"]["rejected_attempts"] == {"invisible": 2 * len(gone) + again}
    assert {row["attempt"]: [*rejections(row)] for row in made} == {0: [], 1: ["invisible"]}
    assert not [finding for finding in check_master(out) if finding.severity == "error"]
    assert dataset_status(out).rejected == {"invisible": len(gone)}
    lines = [json.loads(line) for line in (out / "run.log").read_text().splitlines()]
    assert sum(line.get("rejected", 0) for line in lines) == len(gone)
    assert f"rejected {len(gone)} of 12: invisible {len(gone)}" in (out / "README.md").read_text()
    pictures = sorted((out / "rejected").iterdir())
    assert len(pictures) == 2 * len(gone) + again
    with Image.open(pictures[0]) as shown:
        assert shown.size == (1024, 256)

    broken = change(whole, output={"path": str(tmp_path / "broken" / "out")})
    with pytest.raises(KeyboardInterrupt):
        generate(broken, Stop(3))
    drawn: list[str] = []
    draw = drawing_module.synthesise_batch

    def seen(plans, *rest):
        drawn.extend(plan.id for plan in plans if not plan.attempt)
        return draw(plans, *rest)

    before = {name for record in read_shards(broken.output_path) for name in (*record.samples, *record.rejected)}
    monkeypatch.setattr(drawing_module, "synthesise_batch", seen)
    generate(change(broken, run={"batch_size": 5, "shard_size": 16, "workers": 2}))
    assert before and not before & set(drawn), "what was made or rejected is not made again"
    assert content(broken.output_path) == content(out)
    assert tree(broken.output_path / "rejected") == tree(out / "rejected")
    drawn.clear()
    assert generate(broken).nothing_to_do and generate(change(broken, output={"mode": "extend"})).samples == len(made)
    assert not drawn


def test_extend_and_replay_know_attempts(gated) -> None:
    generate(gated)
    out = gated.output_path
    first = dropped(out)
    more = change(gated, output={"mode": "extend"}, variants=3)
    assert generate(more).samples + len(dropped(out)) == 18
    assert first.items() <= dropped(out).items()
    late = next(row["image_name"] for row in rows(out) if row["attempt"] == 1)
    assert replay(out, late).identical and replay(out, late, step=0).identical
    with pytest.raises(UsageError, match=r"was rejected by the quality gate: invisible, invisible"):
        replay(out, next(iter(first)))
    row = next(row for row in rows(out) if row["image_name"] == late)
    events = [json.loads(line) for line in (out / "train" / row["events_file"]).read_text().splitlines()]
    assert all(event["quality"]["visible"] > 0 for event in events if event["area_px"] > 40)


def test_when_all_are_rejected_it_says_what_to_do_and_keeps_the_pictures(gated) -> None:
    none = change(gated, gate={"visible": 500.0}, limit=2)
    for _ in range(2):  # nor are they tried again
        with pytest.raises(IncompleteError, match=r"gate rejected 4 of 4: invisible 4, and .* --no-gate") as error:
            generate(none)
        assert error.value.exit_code == 3
    assert len(list((none.output_path / "rejected").iterdir())) == 8
    assert manifest(none.output_path)["status"] == "failed"
    assert generate(change(none, output={"mode": "overwrite"}, gate={"enabled": False})).samples == 4
    assert not (none.output_path / "rejected").exists()


def test_what_is_no_number_is_drawn_again(gated, monkeypatch, tmp_path) -> None:
    from changen_cli.synthesis.synthesiser import Synthesiser

    forward = Synthesiser._forward
    off = {name: "none" for name in ("visible", "seam", "sharpness", "grain", "colour", "saturated", "agreement")}
    recipe = change(
        gated, synthesis={"strength": 0.5, "inference_steps": 2}, gate=off, limit=3, variants=1, run={"batch_size": 3}
    )
    seeds: set[int] = set()

    def sometimes(synthesiser, chunk, size):
        patches = forward(synthesiser, chunk, size)
        return [patch * (np.nan if task.seed in seeds else 1) for patch, task in zip(patches, chunk, strict=True)]

    clean = change(recipe, output={"path": str(tmp_path / "clean" / "out")})
    prepare = Synthesiser._prepare

    def marked(synthesiser, number, job):
        canvas, tasks = prepare(synthesiser, number, job)
        seeds.update(task.seed for task in tasks if job.scene_id == "s1" and job.seed == recipe.seed)
        return canvas, tasks

    assert generate(clean).samples == 3
    monkeypatch.setattr(Synthesiser, "_forward", sometimes)
    monkeypatch.setattr(Synthesiser, "_prepare", marked)
    assert generate(recipe).samples == 3
    made, before = ({row["image_name"]: row for row in rows(r.output_path)} for r in (recipe, clean))
    assert made["s1_v00"]["attempt"] == 1 and made["s1_v00"]["rejected"] == "broken"
    assert all(made[name] == before[name] for name in ("s0_v00", "s2_v00")), "the others of its batch are as ever"


def test_attempt_0_draws_what_no_gate_draws(gated, tmp_path) -> None:
    generate(gated)
    plain = change(gated, gate={"enabled": False}, output={"path": str(tmp_path / "plain" / "out")})
    generate(plain)
    first = [row["image_name"] for row in rows(gated.output_path) if row["attempt"] == 0]
    assert first
    files = [tree(recipe.output_path / "train") for recipe in (gated, plain)]
    for name in first:
        mine, other = (
            {file: h for file, h in found.items() if name in file and "events" not in file} for found in files
        )
        assert mine == other and len(mine) > 5


def test_an_older_dataset_was_not_judged(gated) -> None:
    """Its manifest knows no gate: going on, extending and replaying leave it that way."""
    ungated = change(gated, gate={"enabled": False}, limit=1)
    generate(ungated)
    path = ungated.output_path / "manifest.json"
    told = json.loads(path.read_text())
    del told["recipe"]["gate"]
    path.write_text(json.dumps(told))
    assert replay(ungated.output_path, "s0_v00").identical
    assert generate(ungated).nothing_to_do
    from changen_cli.core.errors import OutputError

    with pytest.raises(OutputError, match=r"gate.enabled was False, is True"):
        generate(gated)


def test_pictures_are_few(tmp_path) -> None:
    from changen_cli.workflows.rejects import MAX_PICTURES, Reject, keep_pictures

    for number in range(MAX_PICTURES + 5):
        keep_pictures(tmp_path, f"s{number:03d}", [Reject(0, "seam", b"jpeg"), Reject(1, "area")])
    names = sorted(path.name for path in (tmp_path / "rejected").iterdir())
    assert len(names) == MAX_PICTURES and names[0] == "s000_a0_seam.jpg"
    keep_pictures(tmp_path, "s000", [Reject(0, "seam", b"again")])
    assert (tmp_path / "rejected" / names[0]).read_bytes() == b"again", "a sample made again gets its picture"
