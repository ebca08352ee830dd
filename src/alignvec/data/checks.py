"""Checks that a program can make of a reply: whether it has the form that an instruction asks for."""

import json
import re
from abc import ABC, abstractmethod
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Count: TypeAlias = Annotated[int, Field(ge=1)]
Words: TypeAlias = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
END_MARKS = " .!?\"'*”’"
"""What may stand after the words that a reply was to end with."""


class _Check(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def holds(self, reply: str) -> bool:
        """Whether a reply, without space around it, passes."""


class MaxWords(_Check):
    """At most `count` words, as spaces part them."""

    kind: Literal["max_words"]
    count: Count

    def holds(self, reply: str) -> bool:
        return len(reply.split()) <= self.count


class MinWords(_Check):
    """At least `count` words, as spaces part them."""

    kind: Literal["min_words"]
    count: Count

    def holds(self, reply: str) -> bool:
        return len(reply.split()) >= self.count


class Lines(_Check):
    """Exactly `count` lines; blank ones do not count."""

    kind: Literal["lines"]
    count: Count

    def holds(self, reply: str) -> bool:
        return sum(1 for line in reply.splitlines() if line.strip()) == self.count


class Bullets(_Check):
    """Exactly `count` lines that begin with a hyphen, an asterisk or a dot; other lines may stand around them."""

    kind: Literal["bullets"]
    count: Count

    def holds(self, reply: str) -> bool:
        return len(re.findall(r"^\s*[-*•]\s+\S", reply, re.MULTILINE)) == self.count


class Numbered(_Check):
    """Lines numbered from 1 to `count`, and no further; other lines may stand around them."""

    kind: Literal["numbered"]
    count: Count

    def holds(self, reply: str) -> bool:
        numbers = re.findall(r"^\s*(\d+)[.)]\s+\S", reply, re.MULTILINE)
        return [int(number) for number in numbers] == list(range(1, self.count + 1))


class Includes(_Check):
    """Every one of the words, in any case."""

    kind: Literal["includes"]
    words: Words

    def holds(self, reply: str) -> bool:
        return all(_has_word(reply, word) for word in self.words)


class Excludes(_Check):
    """None of the words, in any case."""

    kind: Literal["excludes"]
    words: Words

    def holds(self, reply: str) -> bool:
        return not any(_has_word(reply, word) for word in self.words)


class Without(_Check):
    """None of the characters."""

    kind: Literal["without"]
    characters: Annotated[str, Field(min_length=1)]

    def holds(self, reply: str) -> bool:
        return not set(self.characters) & set(reply)


class StartsWith(_Check):
    """The text at the beginning, in any case."""

    kind: Literal["starts_with"]
    text: Annotated[str, Field(min_length=1)]

    def holds(self, reply: str) -> bool:
        return re.match(re.escape(self.text) + r"(?!\w)", reply, re.IGNORECASE) is not None


class EndsWith(_Check):
    """The text at the end, in any case; a full stop or quotation mark may follow it."""

    kind: Literal["ends_with"]
    text: Annotated[str, Field(min_length=1)]

    def holds(self, reply: str) -> bool:
        return reply.rstrip(END_MARKS).casefold().endswith(self.text.rstrip(END_MARKS).casefold())


class LowerCase(_Check):
    """Letters, and no capital one."""

    kind: Literal["lower_case"]

    def holds(self, reply: str) -> bool:
        return reply.islower()


class UpperCase(_Check):
    """Letters, and no small one."""

    kind: Literal["upper_case"]

    def holds(self, reply: str) -> bool:
        return reply.isupper()


class OneOf(_Check):
    """One of the options and nothing else, in any case; a full stop may follow it."""

    kind: Literal["one_of"]
    options: Words

    def holds(self, reply: str) -> bool:
        return reply.strip(END_MARKS).casefold() in {option.casefold() for option in self.options}


class JsonObject(_Check):
    """A JSON object with just these keys and nothing around it but a code fence."""

    kind: Literal["json_object"]
    keys: Words

    def holds(self, reply: str) -> bool:
        fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", reply, re.DOTALL)
        try:
            found = json.loads(fenced[1] if fenced else reply)
        except (RecursionError, ValueError):
            return False
        return isinstance(found, dict) and found.keys() == set(self.keys)


Check: TypeAlias = Annotated[
    MaxWords
    | MinWords
    | Lines
    | Bullets
    | Numbered
    | Includes
    | Excludes
    | Without
    | StartsWith
    | EndsWith
    | LowerCase
    | UpperCase
    | OneOf
    | JsonObject,
    Field(discriminator="kind"),
]


def _has_word(reply: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", reply, re.IGNORECASE) is not None
