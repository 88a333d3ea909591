"""What the messages on ``docs/errors.md`` are about, and what helps with each kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A part of the page.

    Attributes:
        title: Its heading.
        modules: Modules of the package, or folders ending in ``/``, whose messages stand there.
        advice: What helps in general, above the messages.
        values: Those of the modules whose ``ValueError`` becomes part of a message.
    """

    title: str
    modules: tuple[str, ...]
    advice: str
    values: tuple[str, ...] = ()


_SETTINGS = (
    "core/recipe.py",
    "core/recipe_files.py",
    "core/recipe_sections.py",
    "core/recipe_values.py",
    "core/calendar.py",
    "core/quantities.py",
    "core/yaml_files.py",
    "core/licences.py",
    "core/addresses.py",
    "cli/recipes.py",
    "workflows/recipes.py",
)

TOPICS: tuple[Topic, ...] = (
    Topic(
        "Options and recipes",
        _SETTINGS,
        "Nothing was read or written yet. `changen recipe check FILE` tells all of these before a run; "
        "`changen recipe init` lists every key. See [recipes](recipes.md).",
        _SETTINGS,
    ),
    Topic(
        "The input folder",
        ("sources/folder.py", "sources/locate.py", "sources/archives.py", "sources/statement.py"),
        "The folder as a whole does not fit. What is expected: [layouts](sources.md#layouts), "
        "[masks](sources.md#masks).",
        ("sources/archives.py",),
    ),
    Topic(
        "One image or its label",
        ("sources/", "workflows/shards.py"),
        "One broken file never ends a run; more than `--max-skipped` of them do, with exit code 3. "
        "Mend or remove the files, then give the same command again with `--mode extend`. "
        "See [skips](sources.md#skips).",
    ),
    Topic(
        "Events and transitions",
        ("events/", "core/transitions.py", "workflows/plans.py", "core/types.py"),
        "What was asked for does not go with these classes. `changen preview` shows in seconds what would happen. "
        "See [events](events.md).",
        ("core/types.py",),
    ),
    Topic(
        "Nuisance",
        ("core/nuisance.py", "cli/nuisance.py", "workflows/nuisance_fit.py"),
        "`changen nuisance show realistic --yaml` prints a file to begin with. See [nuisance](nuisance.md).",
        ("core/nuisance.py",),
    ),
    Topic(
        "Models and devices",
        ("synthesis/", "workflows/models.py"),
        "`changen models show MODEL` says what a file is, `changen models check MODEL` loads it and runs it once. "
        "See [models](models.md).",
    ),
    Topic(
        "Runs, their output and how they go on",
        (
            "core/errors.py",
            "core/lock.py",
            "core/links.py",
            "core/manifest.py",
            "core/checksums.py",
            "cli/status.py",
            "workflows/results.py",
            "workflows/resume.py",
            "workflows/preview.py",
            "workflows/setup.py",
            "workflows/estimate.py",
            "workflows/ledger.py",
            "workflows/workers.py",
            "writers/parquet.py",
            "writers/staging.py",
        ),
        "Finished samples are kept, whatever happened, and the same command goes on. "
        "See [runs that go on](resume.md) and [what goes wrong](faults.md).",
    ),
    Topic(
        "Many processes, object stores",
        ("workflows/ranks.py", "workflows/cluster.py", "workflows/worker.py", "workflows/storage.py"),
        "See [scaling](scaling.md).",
    ),
    Topic("Replay", ("workflows/replay.py",), "See [making one sample again](replay.md)."),
    Topic(
        "Training",
        ("training/", "workflows/train.py", "cli/train.py"),
        "See [training](training.md).",
    ),
    Topic(
        "Reading a dataset again",
        (
            "workflows/report.py",
            "workflows/report_index.py",
            "workflows/report_sample.py",
            "workflows/report_server.py",
            "workflows/timelapse.py",
            "workflows/validate.py",
            "workflows/describe.py",
            "exports/master.py",
            "exports/reading.py",
            "core/untrusted.py",
        ),
        "`changen validate OUT` names every file that is wrong, why, and what to do. "
        "A dataset that was cut off is completed by the command that made it.",
        ("core/untrusted.py",),
    ),
    Topic(
        "Evaluation and fits to real pairs",
        (
            "workflows/evaluate.py",
            "workflows/likeness.py",
            "workflows/published_metrics.py",
            "workflows/image_pairs.py",
            "workflows/transition_fit.py",
            "workflows/transition_pairs.py",
            "workflows/probe.py",
            "workflows/detection_data.py",
            "cli/evaluate.py",
        ),
        "Which folders of real pairs are known: [evaluate](evaluate.md#shortcuts), "
        "[transitions](events.md#transitions).",
    ),
    Topic(
        "Change detectors",
        ("workflows/detect.py", "workflows/train_detector.py", "cli/detector.py"),
        "See [a change detector](detector.md).",
    ),
    Topic(
        "Exports", ("exports/", "cli/export.py", "workflows/export.py"), "See [layouts other tools open](exports.md)."
    ),
    Topic(
        "The Hugging Face Hub",
        (
            "writers/hub.py",
            "writers/hub_client.py",
            "writers/hub_errors.py",
            "cli/push.py",
            "workflows/push.py",
            "workflows/publish.py",
            "workflows/push_model.py",
            "workflows/push_plan.py",
            "workflows/push_record.py",
            "workflows/push_target.py",
            "workflows/push_verify.py",
        ),
        "The dataset on disk is complete whatever the Hub says; the same command sends what is missing. See "
        "[publishing](hub.md#interruptions).",
    ),
    Topic("Anything else", ("core/", "cli/", "workflows/", "writers/"), "New messages, until they get a place above."),
)
