"""Which licence a dataset may be published under."""

from __future__ import annotations

from itertools import permutations

import pytest

from changen_cli.core.errors import UsageError
from changen_cli.core.licences import Licence, combine, dataset_licence, find_identifier, licence_parts, to_spdx
from changen_cli.core.manifest import Manifest, ModelRecord


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("CC BY-NC-SA 4.0", "cc-by-nc-sa-4.0"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("CC0", "cc0-1.0"),
        ("cc0 1.0", "cc0-1.0"),
        ("Apache-2.0", "apache-2.0"),
        ("Apache License", "apache-2.0"),
        ("The MIT License", "mit"),
        ("ODbL 1.0", "odbl"),
        ("Etalab 2.0", "etalab-2.0"),
        ("CC BY 4.0 International", "cc-by-4.0"),
        ("openrail++", "openrail++"),
        ("", None),
        ("other", None),
        ("unknown", None),
        ("not stated; published Changen2 states are CC BY-NC-SA 4.0", None),
        ("see the source dataset", None),
    ],
)
def test_spellings(text: str, identifier: str | None) -> None:
    assert find_identifier(text) == identifier


@pytest.mark.parametrize(
    ("parts", "identifier"),
    [
        (("cc0-1.0",), "cc0-1.0"),
        (("cc0-1.0", "apache-2.0"), "apache-2.0"),
        (("cc-by-4.0", "apache-2.0"), "cc-by-4.0"),
        (("mit", "etalab-2.0"), "etalab-2.0"),
        (("cc-by-4.0", "odbl"), "odbl"),
        (("cc-by-sa-4.0", "cc-by-4.0", "mit"), "cc-by-sa-4.0"),
        (("cc-by-sa-3.0", "cc-by-sa-4.0"), "cc-by-sa-4.0"),
        (("cc-by-4.0", "cc-by-nc-4.0"), "cc-by-nc-4.0"),
        (("cc-by-nc-4.0", "CC BY-NC-SA 4.0"), "cc-by-nc-sa-4.0"),
        (("cc-by-nc-sa-2.0", "cc-by-nc-sa-4.0", "apache-2.0"), "cc-by-nc-sa-4.0"),
        (("gpl-3.0", "gpl-3.0"), "gpl-3.0"),
    ],
)
def test_the_most_restrictive_wins_in_any_order(parts: tuple[str, ...], identifier: str) -> None:
    for order in permutations(parts):
        found = combine([(f"part {i}", licence) for i, licence in enumerate(order)])
        assert (found.identifier, found.known) == (identifier, True)
        assert all(f"part {i}" in found.reason for i in range(len(parts))), "every part is named"


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("cc-by-4.0", ""), "not known: part 1: not stated"),
        (("see the source dataset",), "not known: part 0: see the source dataset"),
        (("cc-by-nd-4.0",), "No derivative of part 0 (cc-by-nd-4.0) may be shared"),
        (("mit", "cc-by-nc-nd-4.0"), "No derivative of part 1 (cc-by-nc-nd-4.0)"),
        (("cc-by-sa-4.0", "odbl"), "odbl and cc-by-sa-4.0 cannot be combined"),
        (("cc-by-sa-4.0", "cc-by-nc-sa-4.0"), "cc-by-sa-4.0 and cc-by-nc-sa-4.0 cannot be combined"),
        (("cc-by-4.0", "odbl", "cc-by-nc-4.0"), "odbl and cc-by-nc-4.0 cannot be combined"),
        (("cc-by-4.0", "gpl-3.0"), "gpl-3.0 cannot be weighed"),
    ],
)
def test_what_does_not_combine_is_said(parts: tuple[str, ...], said: str) -> None:
    found = combine([(f"part {i}", licence) for i, licence in enumerate(parts)])
    assert (found.identifier, found.known) == ("other", False)
    assert said in found.reason


def made(licences: list[str] | None, model: str | None = None, proposer: str | None = None) -> Manifest:
    source: dict[str, object] = {"name": "tiles"}
    if licences is not None:
        source["license"] = licences
    if proposer is not None:
        source["proposals_model"] = {"id": "some-sam", "license": proposer}
    record = None if model is None else ModelRecord(id="me/net", sha256="0", license=model)
    return Manifest(fingerprint="", recipe={}, source=source, model=record, versions={})


def test_source_and_models_count() -> None:
    manifest = made(["cc-by-4.0", "odbl"], "Apache-2.0", "mit")
    assert licence_parts(manifest) == [
        ("source tiles", "cc-by-4.0"),
        ("source tiles", "odbl"),
        ("model me/net", "Apache-2.0"),
        ("model some-sam", "mit"),
    ]
    assert dataset_licence(manifest) == Licence(
        "odbl",
        "The most restrictive licence of source tiles (cc-by-4.0, odbl), model me/net (apache-2.0), model some-sam (mit).",
        True,
    )
    assert dataset_licence(made(["cc0-1.0"], "CC BY-NC-SA 4.0")).identifier == "cc-by-nc-sa-4.0"
    assert not dataset_licence(made(None, "Apache-2.0")).known, "a manifest that says nothing of the source"
    assert not dataset_licence(made(["cc0-1.0"], "")).known


def test_a_stated_licence_overrules_and_keeps_what_was_computed() -> None:
    stated = dataset_licence(made(None, "Apache-2.0"), "CC BY 4.0")
    assert (stated.identifier, stated.known) == ("cc-by-4.0", True)
    assert "Stated by the publisher" in stated.reason and "source tiles: not stated" in stated.reason
    assert dataset_licence(made(["mit"]), "mit") == Licence("mit", "Stated by the publisher.", True)
    with pytest.raises(UsageError, match=r"--license: 'nonsense' is no licence"):
        dataset_licence(made(["mit"]), "nonsense")


@pytest.mark.parametrize(
    ("identifier", "spdx"),
    [("cc-by-4.0", "CC-BY-4.0"), ("cc0-1.0", "CC0-1.0"), ("odbl", "ODbL-1.0"), ("cc", "other"), ("other", "other")],
)
def test_spdx_identifiers(identifier: str, spdx: str) -> None:
    assert to_spdx(identifier) == spdx
