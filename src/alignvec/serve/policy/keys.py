"""API keys: made at random, kept as hashes, compared in constant time, never shown again."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

PREFIX = "av-"
NAME = r"[A-Za-z0-9._-]{1,64}"
"""Names of keys: they are written to the audit log."""

_KEY = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """A fresh key: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """The hash that a policy file keeps, `sha256:` and 64 hexadecimal digits."""
    # Slow, salted hashes protect passwords that can be guessed. 256 random bits cannot be, so one SHA-256 is enough,
    # and it costs a request nothing.
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def matching(key: str, hashes: Sequence[str]) -> int | None:
    """Position of the hash that belongs to `key`; None if none does."""
    digest = key_hash(key)
    # All hashes are compared, the found one or not: the time taken tells nothing about where a key stands.
    found = [hmac.compare_digest(digest, known) for known in hashes]
    return found.index(True) if any(found) else None


def redacted(text: str) -> str:
    """`text` with every key in it replaced by `av-…`."""
    return _KEY.sub(PREFIX + "…", text)
