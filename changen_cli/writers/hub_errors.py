"""What goes wrong with the Hub: one clear line each, and whether trying again can help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from changen_cli.core.errors import ChangenError, OutputError

_TRANSIENT = frozenset((408, 429, 500, 502, 503, 504))
_HTTP_LIBRARIES = frozenset(("httpx2", "httpx", "requests", "urllib3"))
"""What huggingface_hub was built on so far; the errors of all of them mean that no answer came."""
_AGAIN = "Run the command again: what the Hub already holds is not sent again"


def status_of(error: BaseException) -> int | None:
    """The HTTP status the Hub answered with; None where no answer came, or the error is about something else."""
    for link in _chain(error):
        status = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def is_unreachable(error: BaseException) -> bool:
    """Whether no answer came: no network, a cut connection, a time-out."""
    if status_of(error) is not None:
        return False
    return any(
        isinstance(link, ConnectionError | TimeoutError) or type(link).__module__.split(".")[0] in _HTTP_LIBRARIES
        for link in _chain(error)
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later."""
    return status_of(error) in _TRANSIENT or is_unreachable(error)


def retry_after(error: BaseException) -> float:
    """Seconds the Hub asks to wait (header ``Retry-After``); 0 where it does not say."""
    for link in _chain(error):
        headers: Any = getattr(getattr(link, "response", None), "headers", None) or {}
        text = str(headers.get("Retry-After", "")).strip()
        if text.isdigit():
            return float(text)
    return 0.0


def explain(error: BaseException, repo_id: str, endpoint: str, token: str) -> ChangenError:
    """One line for people; the token never stands in it.

    Args:
        error: Whatever the Hub's client raised.
        repo_id: The repository it was about.
        endpoint: Address of the Hub.
        token: The token in use, to be left out.
    """
    message, fix = _words(error, repo_id, endpoint)
    return OutputError(_without(message, token), fix)


def _words(error: BaseException, repo_id: str, endpoint: str) -> tuple[str, str]:
    status, told = status_of(error), _told(error)
    if is_unreachable(error):
        return f"{endpoint} cannot be reached ({told})", f"Check the network and HF_HUB_OFFLINE. {_AGAIN}"
    if status == 401:
        fix = "Make one that may write at https://huggingface.co/settings/tokens, then `hf auth login` or set HF_TOKEN"
        return f"the Hub does not accept the token ({told})", fix
    if status == 403:
        return f"the token may not write to {repo_id} ({told})", "Use a token that may, or --create-pr to propose it"
    if status == 412:
        return f"{repo_id} was changed by somebody else in the meantime", _AGAIN
    if status in _TRANSIENT:
        return f"the Hub keeps answering {status} ({told})", f"{_AGAIN}, later"
    if status is not None:
        return f"{repo_id}: the Hub answers {status} ({told})", ""
    return f"{repo_id}: {told}", ""


def _told(error: BaseException) -> str:
    """The shortest true account: what the server said, else the first line of the innermost error."""
    links = list(_chain(error))
    answered = next((link for link in links if getattr(link, "response", None) is not None), None)
    headers: Any = getattr(getattr(answered, "response", None), "headers", None) or {}
    if server := headers.get("X-Error-Message") or getattr(answered, "server_message", None):
        return " ".join(str(server).split())[:200]
    lines = [line.strip() for line in str(answered or links[-1]).splitlines() if line.strip()]
    # Answers are followed by addresses; other errors say in later lines what exactly is wrong.
    return ("; ".join(lines[:1] if answered else lines) or type(links[-1]).__name__)[:300]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those it was raised from: the client wraps what an upload ran into."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _without(text: str, token: str) -> str:
    return text.replace(token, "***") if token else text
