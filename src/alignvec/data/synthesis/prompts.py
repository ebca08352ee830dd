"""Prompts as published files: every step's text has a version, and a row records which one made it."""

import hashlib
import string
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from alignvec.data.schema import Text
from alignvec.data.yaml_keys import load_yaml
from alignvec.errors import DataError
from alignvec.shipped import ROOT

PROMPTS = ROOT / "recipes" / "prompts"
"""Folder of the prompts that come with the project."""

Step = Literal["persona", "query", "reply", "judge"]
FIELDS: dict[Step, frozenset[str]] = {
    "persona": frozenset({"description", "language", "attributes"}),
    "query": frozenset({"description", "language", "persona", "topic"}),
    "reply": frozenset({"description", "language", "persona", "query", "instruction", "length"}),
    "judge": frozenset({"description", "language", "levels", "names", "query", "reply"}),
}
"""What a prompt of each step may name in braces."""

Messages = tuple[tuple[str, str], ...]
"""Chat messages as (role, content)."""


class Prompt(BaseModel):
    """One step's prompt; `{field}` in its texts is filled in, `{{` and `}}` are braces.

    Attributes:
        name: the step, or what else asks with it.
        version: changes with every change of the texts.
        system: system message.
        user: user message.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    version: Text
    system: Text
    user: Text

    @property
    def reference(self) -> str:
        """name/version#hash, the hash over the texts: an edited prompt shows even if its version was forgotten."""
        digest = hashlib.sha256(f"{self.system}\0{self.user}".encode()).hexdigest()
        return f"{self.name}/{self.version}#{digest[:8]}"

    @property
    def pieces(self) -> tuple[str, ...]:
        """The fixed text between the fields; a writer that repeats it has not understood."""
        parts = (string.Formatter().parse(text) for text in (self.system, self.user))
        return tuple(piece for found in parts for piece, *_ in found if piece.strip())

    def messages(self, **fields: object) -> Messages:
        """The filled-in chat messages."""
        return (("system", self.system.format(**fields)), ("user", self.user.format(**fields)))


class PromptSet(BaseModel):
    """The prompts of all steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    persona: Prompt
    query: Prompt
    reply: Prompt
    judge: Prompt


def load_prompts(folder: Path | None = None) -> PromptSet:
    """Read `persona.yaml`, `query.yaml`, `reply.yaml` and `judge.yaml` of a folder; default: the published ones.

    Raises:
        DataError: if a file is missing or malformed, or names a field that its step does not have.
    """
    place = folder or PROMPTS
    return PromptSet.model_validate({step: load_prompt(place / f"{step}.yaml", step, FIELDS[step]) for step in FIELDS})


def load_prompt(path: Path, name: str, fields: Collection[str]) -> Prompt:
    """Read one prompt.

    Args:
        path: the file.
        name: what the prompt has to be called.
        fields: what its texts may name in braces.

    Raises:
        DataError: if the file is missing or malformed, or names another field.
    """
    try:
        prompt = Prompt.model_validate(load_yaml(path.read_text(encoding="utf-8")))
        parsed = [piece for text in (prompt.system, prompt.user) for piece in string.Formatter().parse(text)]
        named = {
            field + (f"!{how}" if how else "") + (f":{form}" if form else "")
            for _, field, form, how in parsed
            if field is not None
        }
    except FileNotFoundError:
        needs = f"a folder of prompts needs {', '.join(FIELDS)} (.yaml)" if name in FIELDS else "check the path"
        raise DataError(f"no prompt at {path}; {needs}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{path}: {where}: {first['msg']}; see recipes/prompts") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"cannot read {path}: {error}; see recipes/prompts") from None
    if prompt.name != name:
        raise DataError(f"{path}: name is {prompt.name!r}, not {name!r}; name it after its step")
    if unknown := sorted(named - set(fields)):
        raise DataError(
            f"{path}: unknown field {{{unknown[0]}}} (have: {', '.join(sorted(fields))}); "
            "write braces that are no field as {{ and }}"
        )
    return prompt
