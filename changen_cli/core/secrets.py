"""Tokens and keys, kept out of everything that is printed or written down."""

from __future__ import annotations

import os
import re

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FSSPEC_S3_SECRET")
_SHORTEST = 8
_HIDDEN = "***"
_ADDRESS_LOGIN = re.compile(r"(?<=://)[^\s/@'\"]+@")
_LOOKS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{20,}"), _HIDDEN),
    (re.compile(r"(?i)\b(authorization\W{1,5}\w+|bearer) [A-Za-z0-9+/=._~-]{12,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), _HIDDEN),
    # A signed address gives whoever has it the right to read or write.
    (re.compile(r"(?i)\b([a-z-]{0,30}(?:signature|credential|token|secret))=[^\s&'\"]+"), rf"\1={_HIDDEN}"),
    (_ADDRESS_LOGIN, f"{_HIDDEN}@"),
)


def masked(text: str) -> str:
    """The same text without the tokens of the environment, and without what looks like a token or a key."""
    for value in map(os.environ.get, _VARIABLES):
        if value and len(value) >= _SHORTEST:
            text = text.replace(value, _HIDDEN)
    for pattern, instead in _LOOKS:
        text = pattern.sub(instead, text)
    return text


def holds_login(address: str) -> bool:
    """Whether an address names a user or a password, as in ``s3://key:secret@bucket``."""
    return _ADDRESS_LOGIN.search(address) is not None
