"""The policy file: which key may turn which vectors how far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from alignvec.data.yaml_keys import RepeatedKeyError, load_yaml
from alignvec.errors import ConfigError
from alignvec.serve.errors import MissingKeyError, UnauthorizedError
from alignvec.serve.policy.keys import matching, redacted
from alignvec.serve.policy.rules import Grant, Limit, Part, Rules
from alignvec.steer.scale import Scale

EXAMPLE = "recipes/policies/example.yaml is an example"
ANONYMOUS = "anonymous"
"""Name of requests without a key in the audit log."""


class Key(Rules):
    """The rules of one API key, which is known by its hash.

    Attributes:
        hash: sha256 of the key, as `alignvec key` prints it.
    """

    hash: Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$", repr=False, exclude=True)]


class PolicyFile(Part):
    """What `policy.yaml` holds.

    Attributes:
        keys: what each API key may do.
        anonymous: what requests without a key may do; left out, they are refused.
    """

    keys: tuple[Key, ...] = ()
    anonymous: Grant | None = None

    @model_validator(mode="after")
    def _distinct(self) -> "PolicyFile":
        if not self.keys and self.anonymous is None:
            raise ValueError("lets nobody in; add keys, or anonymous")
        names = [ANONYMOUS, *(key.name for key in self.keys)]
        if again := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise ValueError(f"two keys are named {again!r}; each needs a name of its own, other than {ANONYMOUS!r}")
        if len({key.hash for key in self.keys}) < len(self.keys):
            raise ValueError("two keys have the same hash; make one for each with `alignvec key`")
        return self


@dataclass(frozen=True)
class Policy:
    """Who may do what.

    Attributes:
        source: the file, for messages.
        keys: rules of the known keys.
        anonymous: rules of requests without a key; None refuses them.
        open: there is no policy file.
    """

    source: str
    keys: Sequence[Key]
    anonymous: Rules | None
    open: bool = False

    def rules(self, key: str | None) -> Rules:
        """What a request with this API key may do; where there are no keys at all, one is not looked at.

        Raises:
            UnauthorizedError: if the key is missing or not known.
        """
        if key is None or not self.keys:
            if self.anonymous is None:
                raise MissingKeyError("no API key; send yours in the header Authorization: Bearer …")
            return self.anonymous
        found = matching(key, [known.hash for known in self.keys])
        if found is None:
            raise UnauthorizedError("this API key is not known here; check it, or ask who runs the server for one")
        return self.keys[found]

    def check(self, scales: Mapping[str, Scale]) -> None:
        """Check that every position fits the loaded vectors; before they are served, at the start and at a reload.

        Raises:
            ConfigError: naming the file, the key and the field.
        """
        for rules in (*self.keys, *([self.anonymous] if self.anonymous else [])):
            try:
                rules.check(scales)
            except ConfigError as error:
                raise ConfigError(f"{self.source}: {rules.name}: {error}") from None


def open_policy() -> Policy:
    """Everything is allowed to everybody: for a server that only this machine can reach."""
    return Policy("no policy", (), Rules(name="local", admin=True), open=True)


def load_policy(path: Path) -> Policy:
    """Read `policy.yaml`.

    Raises:
        ConfigError: naming the file and the field; it shows no value, as that may be a key. Also for a
            key with `forced` that does not say which other vectors it may turn.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8-sig"))
        empty = _empty(content)
    except FileNotFoundError:
        raise ConfigError(f"no policy file at {path}; {EXAMPLE}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}; name a policy file") from None
    except RepeatedKeyError as error:
        raise ConfigError(redacted(f"{path}: {error}; keep one")) from None
    except yaml.MarkedYAMLError as error:
        line = f" on line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(redacted(f"{path}: not valid YAML: {error.problem}{line}")) from None
    except (ValueError, yaml.YAMLError, RecursionError):
        raise ConfigError(f"{path}: not valid YAML: it holds a character or a value that cannot be read") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: no YAML mapping; {EXAMPLE}")
    if empty:  # `vectors:` with nothing behind it reads like none of them, and left out it means all of them
        raise ConfigError(redacted(f"{path}: {empty}: is empty; give it a value, or leave it out"))
    try:
        read = PolicyFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(redacted(f"{path}: {_complaint(error)}; {EXAMPLE}")) from None
    anonymous = Rules(name=ANONYMOUS, **dict(read.anonymous)) if read.anonymous else None
    for rules in (*read.keys, *([anonymous] if anonymous else [])):
        if rules.forced and rules.vectors is None:  # reads like a locked key, and is one with all other knobs free
            raise ConfigError(
                f"{path}: {rules.name}: forced without vectors would leave any other loaded vector free; "
                "add `vectors: {}` to free none, or list those that this key may turn"
            )
    return Policy(str(path), read.keys, anonymous)


def _empty(value: Any, where: str = "") -> str | None:
    """The first field without a value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    within = (_empty(part, f"{where}.{name}") for name, part in parts)
    return where[1:] if value is None else next((found for found in within if found), None)


def _complaint(error: ValidationError) -> str:
    """One of the errors; an unknown name first, as a misspelt one makes another missing."""
    errors = error.errors(include_input=False, include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the policy"
    if first["type"] == "extra_forbidden":
        parts: dict[int, type[Part]] = {1: PolicyFile, 2: Grant, 3: Key}
        known = parts.get(len(first["loc"]), Limit).model_fields
        return f"{where}: no such field (have: {', '.join(known)})"
    if first["type"] == "string_pattern_mismatch" and first["loc"][-1] == "hash":
        return f"{where}: must be sha256: and 64 hexadecimal digits, as `alignvec key` prints it"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
