"""A domain file: topics, levels and the grid of personas that preference data is built from."""

import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from alignvec.data.languages import LANGUAGES
from alignvec.data.schema import Text
from alignvec.data.yaml_keys import load_yaml
from alignvec.errors import DataError
from alignvec.shipped import ROOT

DOMAINS = ROOT / "recipes" / "domains"
"""Folder of the domain files that come with the project."""

_COMPLAINTS = {
    "missing": "is missing",
    "tuple_type": "must be a list, as in [one, two]",
    "too_short": "needs one entry or more",
    "too_long": "has too many entries",
    "dict_type": "must be entries with names, as in name: value",
    "model_type": "must be entries with names, as in name: value",
    "invalid_key": "is no name; put it in quotes",
    "string_type": "must be text; put quotes around it",
    "string_too_short": "has no text",
    "string_pattern_mismatch": "is no name; use a-z, 0-9, - and _, a letter or digit first",
}
"""What is wrong in words of the file; pydantic's are of Python."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
_Values = Annotated[tuple[Text, ...], Field(min_length=1)]


class Level(BaseModel):
    """One level of a domain.

    Attributes:
        instruction: what a reply at this level does; goes into the teacher's and the judge's prompts.
        words: fewest and most words of a reply; how they are counted without spaces says `unspaced.words`.
        answers: whether a reply at this level answers; then a refusal in it is a fault.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: Text
    words: tuple[int, int]
    answers: bool = True

    @field_validator("words")
    @classmethod
    def _band(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 0 < value[0] < value[1]:
            raise ValueError("needs [fewest, most] words with 0 < fewest < most")
        return value


class Domain(BaseModel):
    """What preference data of one domain is built from.

    Attributes:
        name: short name, used in ids and file names.
        description: what the domain's questions are about, in a few words.
        language: code of the language that everything is written in, one of `LANGUAGES`.
        topics: topics that queries rotate through.
        personas: attribute to its values; personas are invented for cells of this grid.
        keywords: words of which a persona from elsewhere must have one to belong to the domain.
        levels: level to what it asks for, from the one that says least to the one that says most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    description: Text
    language: str = "en"
    topics: _Values
    personas: Mapping[Text, _Values]
    keywords: tuple[Text, ...] = ()
    levels: Mapping[Name, Level]

    def length(self, level: str, name: str, seed: int) -> int:
        """Words to ask for in a reply to the query `name`: drawn from what all levels' bands have in common.

        So all levels of a query are asked for in one length, and length does not give the level away. If the bands
        have nothing in common, it is drawn from the level's own.
        """
        bands = [one.words for one in self.levels.values()]
        fewest, most = max(low for low, _ in bands), min(high for _, high in bands)
        if fewest > most:
            fewest, most = self.levels[level].words
        return random.Random(f"{seed}/length/{name}").randint(fewest, most)

    @field_validator("language", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError('YAML reads an unquoted no as false; put the code in quotes, as in language: "no"')
        if value not in LANGUAGES:
            raise ValueError(f"the language gate does not know {value!r}; it knows {', '.join(LANGUAGES)}")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> "Domain":
        lists = {"topics": self.topics, "personas": tuple(self.personas)}
        lists.update({f"personas.{attribute}": values for attribute, values in self.personas.items()})
        for where, names in lists.items():
            if again := _repeated(name.casefold() for name in names):
                raise ValueError(f"{where}: {again!r} is there twice; keep one")
        # A judge names levels in writing of its own, so that these would be one to it.
        if again := _repeated(re.sub("[-_]", "", name) for name in self.levels):
            raise ValueError(f"levels: two names differ in nothing but - and _ ({again!r}); rename one")
        return self

    @model_validator(mode="after")
    def _enough(self) -> "Domain":
        if len(self.levels) < 2:
            raise ValueError("needs two levels or more")
        if not self.personas:
            raise ValueError("personas needs one attribute or more")
        return self


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def domain_path(name: str) -> Path:
    """File of a shipped domain, by its name, whether or not there is one."""
    return DOMAINS / f"{name}.yaml"


def load_domain(name: str) -> Domain:
    """Read a domain by the name of a shipped one or the path of a YAML file.

    Raises:
        DataError: if there is no such domain, or its file is not valid.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = domain_path(name)
        if not path.is_file():
            have = ", ".join(sorted(found.stem for found in DOMAINS.glob("*.yaml"))) or "none"
            raise DataError(f"no domain named {name!r} (have: {have}); name one, or a domain file of your own (.yaml)")
    try:
        content = load_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"no domain file at {path}; check --domain") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise DataError(f"cannot read {path}: {cause}; it must be YAML, see docs/data.md") from None
    try:
        return Domain.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path}: {_complaint(error)}; see docs/data.md") from None


def _complaint(error: ValidationError) -> str:
    """One of the errors; an unknown name first, as a misspelt one makes another missing."""
    errors = error.errors()
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the file"
    if first["type"] == "extra_forbidden":
        known = Domain.model_fields if len(first["loc"]) == 1 else Level.model_fields
        return f"{where}: unknown name {first['loc'][-1]!r} (have: {', '.join(known)})"
    return f"{where}: {_COMPLAINTS.get(first['type'], first['msg'].removeprefix('Value error, '))}"
