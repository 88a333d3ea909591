"""The Hub's client: what is checked before it is called, and how it is kept quiet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from changen_cli.core.errors import UsageError


def check_repo_id(repo_id: str) -> None:
    """Raise UsageError unless ``repo_id`` can be the id of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
        valid = "/" in repo_id
    except HFValidationError:
        valid = False
    if not valid:
        raise UsageError(
            f"--repo-id {repo_id!r} is no repository's id",
            "Give org/name: letters, digits, '-', '_' and '.', the name at most 96 long",
        )


def find_token(given: str | None) -> str:
    """Return the token given, or HF_TOKEN, or that of the stored login; empty where there is none.

    Raises:
        UsageError: It cannot be a token.
    """
    from huggingface_hub import get_token

    token = (given or get_token() or "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        # Said here: the HTTP library's message would show it.
        raise UsageError("the access token holds characters that no token has", "Copy it again")
    return token


def can_use_xet() -> bool:
    """Whether the client would send by Xet."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


@contextmanager
def quiet_client() -> Iterator[None]:
    """Keep the Hub's client from drawing its own bars and from logging signed addresses."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            enable_progress_bars()
