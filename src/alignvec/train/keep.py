"""Keep pairs: out-of-domain queries whose preferred reply is the base's own, so that training does not spill over."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel as Record
from pydantic import ConfigDict, ValidationError

from alignvec.data.lines import numbered_lines, parse_line
from alignvec.data.schema import Split, Text
from alignvec.errors import DataError
from alignvec.evaluate.generation import generate_each
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.scope import scope_of
from alignvec.files import write_text
from alignvec.logprobs import EncodedReplies, encode_replies
from alignvec.models import BaseModel, resolve
from alignvec.steer.knobs import Knobs, check_knobs
from alignvec.steer.model import Continuation, KnobbedModel
from alignvec.steer.sampling import Sampling
from alignvec.train.config import TrainConfig
from alignvec.vectors.card import Card
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import load_card

Place = Literal["base", "positive", "negative"]
"""Whose reply it is: the base's, or that of one end of the knob."""


class Query(Record):
    """A query and where it belongs; other fields of its line are not read.

    Attributes:
        domain: whose business it is; None for one outside all.
        domains: the same, for a query of several domains.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    query: Text
    split: Split = "train"
    domain: str | None = None
    domains: tuple[str, ...] = ()


class KeepRow(Record):
    """One query with the base's own reply, which is to be kept, and the replies at both ends of a knob.

    Attributes:
        base: reply without knobs.
        positive: reply at λ = 1.
        negative: reply at λ = -1.
        unfinished: which of the three were cut off at the longest length, so that stopping there is not the model's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: Text
    base: str
    positive: str
    negative: str
    unfinished: tuple[Place, ...]


class Origin(Record):
    """Whose keep rows a file holds; its first line.

    Attributes:
        domain: of the vector, outside which queries were asked.
        files: sha256 of each of the vector's tensor files.
        base: fingerprint of the base model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    files: dict[str, str]
    base: str


@dataclass(frozen=True)
class _Asked:
    id: str
    query: str


def queries_outside(paths: Sequence[Path], domain: str, *, limit: int | None = None) -> list[str]:
    """Training queries of JSON-lines files that are not a domain's business, each once.

    A line without a split counts as training, one without a domain as outside all.

    Args:
        paths: files of preference rows, or of lines with `query` and, if need be, `split` and `domain` or `domains`.
        limit: take the first ones of each file only.

    Raises:
        DataError: if a file cannot be read, or nothing is left.
    """
    found: dict[str, None] = {}
    for path in paths:
        lines = [parse_line(path, number, line, Query) for number, line in numbered_lines(path, "check --queries")]
        outside = [q.query for q in lines if q.split == "train" and domain not in (q.domain, *q.domains)]
        found |= dict.fromkeys(outside[:limit])
    if not found:
        names = ", ".join(path.name for path in paths)
        raise DataError(f"{names}: no training queries outside {domain!r}; name another file with --queries")
    return list(found)


def keep_rows(
    model: KnobbedModel,
    vector: str,
    queries: Sequence[str],
    sampling: Sampling,
    *,
    journal: Path | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[KeepRow]:
    """Reply to every query without the knob and at λ = 1 and -1, with the same noise.

    Args:
        model: the model with the vector loaded.
        vector: name of the knob.
        queries: all different.
        sampling: how replies are decoded.
        journal: file of finished replies that a killed run goes on from; more queries may be asked later.
        advance: called with the number of replies done.

    Raises:
        KnobError: if no such vector is loaded.
        DataError: if a query does not fit the model's context, or the journal is another run's.
    """
    check_knobs({vector: 1.0}, model.vectors)
    # an id by content lets files be named in any order; so the scope knows no rows
    rows = [_Asked(hashlib.sha256(query.encode()).hexdigest()[:16], query) for query in queries]
    scope = scope_of(model, [vector], sampling, "keep", [])
    settings: dict[Place, Knobs] = {"base": {}, "positive": {vector: 1.0}, "negative": {vector: -1.0}}

    def ask(queries: Sequence[str], knobs: Sequence[Knobs]) -> list[Continuation]:
        return model.continuations([[{"role": "user", "content": query}] for query in queries], knobs, sampling)

    table = generate_each(
        ask, rows, list(settings.values()), journal=Journal(journal, scope), batch_size=48, advance=advance
    )
    found = []
    for query, *column in zip(queries, *table, strict=True):
        replies = {place: Continuation(*reply) for place, reply in zip(settings, column, strict=True)}
        texts = {place: reply.text for place, reply in replies.items()}
        unfinished = tuple(place for place, reply in replies.items() if not reply.ended)
        found.append(KeepRow(query=query, **texts, unfinished=unfinished))
    return found


def save_keep(path: Path, card: Card, rows: Sequence[KeepRow]) -> None:
    """Write keep rows of the vector with this card, below a line that says whose they are.

    Raises:
        StorageError: if the file cannot be written.
    """
    origin = Origin(domain=card.domain or card.name, files=card.files, base=card.base.fingerprint)
    write_text(path, "".join(line.model_dump_json() + "\n" for line in (origin, *rows)))


def load_keep(path: Path) -> tuple[Origin, list[KeepRow]]:
    """Read keep rows and whose they are.

    Raises:
        DataError: if the file cannot be read, does not say whose its rows are, has none, or a line is malformed.
    """
    (_, first), *lines = numbered_lines(path, "make it with `alignvec keep`")
    try:
        origin = Origin.model_validate_json(first)
    except ValidationError:
        raise DataError(
            f"{path}: its first line does not say which vector and base the rows are of; make it again with "
            "`alignvec keep`"
        ) from None
    if not lines:
        raise DataError(f"{path} has no rows; make it again with `alignvec keep`")
    return origin, [parse_line(path, number, line, KeepRow) for number, line in lines]


def recipe_rows(config: TrainConfig) -> list[KeepRow]:
    """Keep rows that a recipe trains on; none without `keep`.

    Raises:
        DataError: if the file cannot be read, or its rows are of another domain or base than the recipe's, or of
            another vector than the one at `start`.
        ModelError: if the recipe's base cannot be found.
        VectorError: if there is no vector at `start`.
    """
    if config.keep is None:
        return []
    origin, rows = load_keep(config.keep)
    domain = config.domain or config.name
    if origin.domain != domain:
        raise DataError(
            f"{config.keep} has keep rows of domain {origin.domain!r}, and the recipe's is {domain!r}; name the file "
            f"that `alignvec keep` made of the {domain} vector"
        )
    found = fingerprint(resolve(config.base))
    if origin.base != found:
        raise DataError(
            f"{config.keep} has replies of another base model ({origin.base[:12]}) than the recipe's {config.base!r} "
            f"({found[:12]}); make it again with `alignvec keep --model`"
        )
    if config.start and origin.files != load_card(config.start).files:
        raise DataError(
            f"{config.keep} has replies of another vector than the recipe's start, {config.start}; make it again with "
            f"`alignvec keep {config.start}`"
        )
    return rows


def encode_keep(base: BaseModel, rows: Sequence[KeepRow], side: str, *, max_length: int) -> list[EncodedReplies]:
    """The base's reply and the one at the end of a side (`positive` or `negative`) of every row where they differ.

    A reply that was cut off has no end-of-turn token: stopping there is not what the model does. A row with a reply of
    no token at all is left out.

    Raises:
        DataError: if a query with its reply is longer than `max_length` tokens.
    """
    found = []
    for row in rows:
        texts = {place: str(getattr(row, place)) for place in ("base", side)}
        if len(set(texts.values())) == 1:
            continue
        whole = encode_replies(base.tokenizer, row.query, list(texts.values()), max_length=max_length)
        replies = tuple(
            reply[:-1] if place in row.unfinished else reply for place, reply in zip(texts, whole.replies, strict=True)
        )
        if all(replies):
            found.append(EncodedReplies(whole.prompt, replies))
    return found
