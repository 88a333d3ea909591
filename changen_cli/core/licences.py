"""Licences of what a dataset is made from, and the one that follows for the dataset: the most restrictive wins.

Identifiers are those of the Hugging Face Hub (https://huggingface.co/docs/hub/repositories-licenses). What may be
combined follows Creative Commons' licence compatibility chart (wiki.creativecommons.org)
and section 4 of the Open Database License. It is a help, not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changen_cli.core.errors import UsageError

if TYPE_CHECKING:
    from changen_cli.core.manifest import Manifest

UNKNOWN = "other"
"""What the Hub is told where no licence is known."""

_ORDER = (
    *("cc0-1.0", "pddl", "unlicense"),
    *("wtfpl", "zlib", "isc", "mit", "bsd-2-clause", "bsd", "bsd-3-clause", "bsl-1.0", "apache-2.0"),
    *("cdla-permissive-2.0", "cdla-permissive-1.0", "odc-by", "etalab-2.0"),
    *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
    *("cdla-sharing-1.0", "odbl", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
)  # fmt: skip
"""Licences that can be compared: public domain, permissive, share-alike, non-commercial, no derivatives."""

_OTHERS = frozenset(
    (
        *("c-uda", "cc"),
        *("agpl-3.0", "eupl-1.1", "eupl-1.2", "gfdl", "gpl", "gpl-2.0", "gpl-3.0"),
        *("lgpl", "lgpl-2.1", "lgpl-3.0", "mpl-2.0", "osl-3.0"),
        *("bigcode-openrail-m", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "creativeml-openrail-m"),
        *("openrail", "openrail++"),
        *("gemma", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4"),
    )
)  # fmt: skip
"""Further identifiers of the Hub; which of two such licences asks for more cannot be said in general."""

_SHORT = {
    "cc0": "cc0-1.0",
    "odbl-1.0": "odbl",
    "pddl-1.0": "pddl",
    "odc-by-1.0": "odc-by",
    "apache": "apache-2.0",
    "etalab": "etalab-2.0",
}


_SPDX = {"odbl": "ODbL-1.0", "etalab-2.0": "etalab-2.0", "mit": "MIT", "apache-2.0": "Apache-2.0"}


@dataclass(frozen=True)
class Licence:
    """What a dataset may be published under.

    Attributes:
        identifier: One of the Hub's identifiers; ``other`` where none follows.
        reason: Why, in one or two sentences for people.
        known: Whether it can be published under ``identifier`` without anybody deciding more.
    """

    identifier: str
    reason: str
    known: bool


def find_identifier(text: str) -> str | None:
    """Return the Hub's identifier of a licence spelled like ``CC BY-NC-SA 4.0``; None if there is none."""
    words = re.sub(r"[\s_-]+", "-", text.strip().lower())
    words = re.sub(r"^(the-)|(-licen[cs]e)$|-international$", "", words)
    name = _SHORT.get(words, words)
    return name if name in _ORDER or name in _OTHERS else None


def to_spdx(identifier: str) -> str:
    """Return the SPDX identifier of one of the Hub's; ``other`` where it has none of the usual ones."""
    return identifier.upper() if identifier.startswith(("cc-by", "cc0")) else _SPDX.get(identifier, UNKNOWN)


def check_identifier(text: str, option: str) -> str:
    """Return the Hub's identifier of a licence somebody states.

    Args:
        text: What was given.
        option: Where, for the message.

    Raises:
        UsageError: The Hub has no such identifier.
    """
    found = find_identifier(text)
    if found is None:
        raise UsageError(
            f"{option}: {text!r} is no licence the Hugging Face Hub knows",
            "Give an identifier such as cc-by-4.0, cc-by-nc-sa-4.0, odbl, etalab-2.0 or mit",
        )
    return found


def dataset_licence(manifest: Manifest, override: str | None = None) -> Licence:
    """Say what a dataset may be published under.

    Args:
        manifest: The dataset's manifest; of its source, its model and the model that proposed its objects the licences
            count.
        override: A licence somebody states instead; identifier of the Hub.

    Raises:
        UsageError: ``override`` is none the Hub knows.
    """
    found = combine(licence_parts(manifest))
    if override is None:
        return found
    stated = UNKNOWN if override == UNKNOWN else check_identifier(override, "--license")
    note = "Stated by the publisher."
    return Licence(stated, note if stated == found.identifier else f"{note} Computed was: {found.reason}", True)


def licence_parts(manifest: Manifest) -> list[tuple[str, str]]:
    """Name everything a dataset is made from, each with its licence as stated; empty where none is."""
    source = manifest.source
    stated = source.get("license") or [""]
    parts = [(f"source {source.get('name') or 'images'}", licence) for licence in stated]
    if manifest.model:
        parts.append((f"model {manifest.model.id}", manifest.model.license))
    proposer = source.get("proposals_model")
    if proposer:
        parts.append((f"model {proposer['id']}", proposer.get("license", "")))
    return parts


def combine(parts: Sequence[tuple[str, str]]) -> Licence:
    """Find the licence of a work made from ``parts``, (what, licence as stated) each.

    Licences that forbid derivatives, and those that demand different licences of the whole, are never resolved: the
    result is not known then and says which ones they are.
    """
    known = [(what, name) for what, text in parts if (name := find_identifier(text))]
    told = ", ".join(f"{what} ({', '.join(name for other, name in known if other == what)})" for what in dict(known))
    if unstated := [(what, text) for what, text in parts if not find_identifier(text)]:
        missing = "; ".join(f"{what}: {text or 'not stated'}" for what, text in unstated)
        return Licence(UNKNOWN, f"The licence of a part is not known: {missing}.", False)
    names = {name for _, name in known}
    if closed := [f"{what} ({name})" for what, name in known if "-nd-" in name]:
        return Licence(
            UNKNOWN, f"No derivative of {', '.join(closed)} may be shared, and every generated image is one.", False
        )
    if len(names) == 1:
        return Licence(names.pop(), f"The licence of all parts: {told}.", True)
    if others := sorted(names - set(_ORDER)):
        return Licence(UNKNOWN, f"{', '.join(others)} cannot be weighed against the others of {told}.", False)
    if clash := _clash(names):
        return Licence(UNKNOWN, f"{clash[0]} and {clash[1]} cannot be combined in one work: {told}.", False)
    return Licence(max(names, key=_ORDER.index), f"The most restrictive licence of {told}.", True)


def _clash(names: set[str]) -> tuple[str, str] | None:
    """Two licences that each demand something of the whole that the other does not allow."""
    ordered = sorted(names, key=_ORDER.index)
    alike = [name for name in ordered if _family(name)]
    for name in alike:
        for other in ordered:
            if _family(other) and _family(other) != _family(name):
                return name, other
            if "-nc-" in other and "-nc-" not in name:
                return name, other
    return None


def _family(name: str) -> str:
    """What a share-alike licence demands the whole to be under, whatever its version; empty for other licences."""
    if "-sa-" in name:
        return name.rpartition("-")[0]
    return name if name in ("odbl", "cdla-sharing-1.0") else ""
