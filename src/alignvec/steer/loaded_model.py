"""A base model with its vectors, ready to be asked: what `alignvec.load` returns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

from pydantic import ValidationError

from alignvec import models
from alignvec.errors import AlignvecError, ConfigError, DataError, KnobError, ModelError, VectorError
from alignvec.logprobs import encode_replies
from alignvec.steer.knobs import Knobs, check_knobs, parse_knobs, require_finite
from alignvec.steer.loading import load_knobbed
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import domain_probabilities, routed, router_for
from alignvec.steer.router import Router
from alignvec.steer.sampling import Sampling
from alignvec.steer.scale import Scale, scale_of

Setting: TypeAlias = str | Mapping[str, float | str]
"""Knobs as a text (`medical=expert,legal=-0.3`, `@FILE#GOAL`, `base`), or λ, level or percentage by vector name."""


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, whose defaults hold for those that are left out."""

    temperature: float
    top_p: float
    repetition_penalty: float
    max_new_tokens: int
    seed: int


class LoadedModel:
    """A model whose knobs are written as on the command line; every call may have settings of its own.

    λ is taken as it is, also outside the range in which a vector was measured (`scales[name].usable`).

    Attributes:
        knobbed: the model underneath, for chats and for what else is not here.
        scales: what each knob's positions mean (levels, percentages, usable range), by vector name.
        router: lets each knob act on its own domain's questions alone; None: knobs act on all.
    """

    def __init__(self, knobbed: KnobbedModel, router: Router | None = None) -> None:
        self.knobbed = knobbed
        self.router = router
        self.scales: dict[str, Scale] = {name: scale_of(vector.card) for name, vector in knobbed.vectors.items()}

    def generate(
        self,
        questions: str | Sequence[str],
        settings: Setting | Sequence[Setting] = "base",
        **sampling: Unpack[SamplingOptions],
    ) -> list[str]:
        """Replies to questions under settings, all in one batch.

        One question meets every setting, one setting every question; as many of both go together in their order.

        Args:
            questions: what a user asks, one or several.
            settings: knobs, one setting or several.
            sampling: see `Sampling`; `temperature=0` is greedy.

        Returns:
            One reply for each pair of a question and a setting.

        Raises:
            KnobError: if a setting cannot be read, names a vector that is not loaded, or there are several questions
                and another number of settings, or it turns the model so far that its logits are not finite.
            ConfigError: if a sampling option cannot work.
            DataError: if a question is no text, or does not fit the model's context with the reply.
        """
        asked, turned = self._rows(questions, settings)
        chats = [[{"role": "user", "content": question}] for question in asked]
        replies = self.knobbed.continuations(chats, turned, _sampling(sampling))
        require_finite(turned, [reply.finite for reply in replies])
        return [reply.text for reply in replies]

    def logprobs(
        self, question: str, replies: str | Sequence[str], settings: Setting | Sequence[Setting] = "base"
    ) -> list[list[float]]:
        """Mean log-probability per token, in nats, of given replies to a question, [settings, replies].

        Args:
            question: what a user asks.
            replies: one text to score or several, the end of the turn included.
            settings: knobs, one setting or several.

        Raises:
            KnobError: as `generate`.
            DataError: if there is no reply, the question or a reply is no text, or both do not fit the model's context.
        """
        texts = [_text(reply, "a reply") for reply in _several(replies)]
        if not texts:
            raise DataError("no reply to score; give at least one")
        asked, turned = self._rows([_text(question, "the question")], settings)
        base = self.knobbed.base
        encoded = encode_replies(base.tokenizer, question, texts, max_length=base.context_length)
        sums = self.knobbed.score([encoded] * len(asked), turned).tolist()
        require_finite(turned, [all(map(isfinite, row)) for row in sums])
        return [[total / len(ids) for total, ids in zip(row, encoded.replies, strict=True)] for row in sums]

    @contextmanager
    def knobs(self, setting: Setting) -> Iterator[Any]:
        """The `transformers` model with its knobs turned, for code of your own; afterwards it is the base, bit for bit.

        No router acts here, so a goal that was solved with one is refused.
        """
        with self.knobbed.knobs(self._coefficients(setting, router=False)) as model:
            yield model

    def coefficients(self, setting: Setting) -> Knobs:
        """λ of every knob that a setting names, before a router turns it for a question.

        Raises:
            KnobError: as `generate`.
        """
        return self._coefficients(setting, router=self.router is not None)

    def _coefficients(self, setting: Setting, *, router: bool) -> Knobs:
        if isinstance(setting, str):
            found = parse_knobs(setting, scales=self.scales, router=router)
            check_knobs(found, self.scales)
            return found
        if not isinstance(setting, Mapping):
            raise KnobError(
                "a setting is a text such as 'medical=0.5', or a mapping such as {'medical': 0.5}, "
                f"not {_kind(setting)}; 'base' is the base model"
            )
        check_knobs(dict.fromkeys(setting, 0.0), self.scales)
        return {name: self.scales[name].coefficient(value) for name, value in setting.items()}

    def probabilities(self, question: str) -> dict[str, float]:
        """How likely the router finds a question to be each domain's business.

        Raises:
            KnobError: if there is no router.
            DataError: if the question is no text.
        """
        if self.router is None:
            raise KnobError("this model has no router; give load() one, as in router='routers/demo'")
        return domain_probabilities(self.router, self.knobbed.base, (_text(question, "the question"),))

    def _rows(
        self, questions: str | Sequence[str], settings: Setting | Sequence[Setting]
    ) -> tuple[list[str], list[Knobs]]:
        asked = [_text(question, "a question") for question in _several(questions)]
        given = _several(settings)
        if not asked or not given:
            raise KnobError("nothing to do: give at least one question and one setting ('base' is the base model)")
        if len(asked) > 1 and len(given) > 1 and len(asked) != len(given):
            raise KnobError(f"{len(asked)} questions and {len(given)} settings; give one of either, or as many of both")
        turned = [self.coefficients(setting) for setting in given]
        rows = max(len(asked), len(given))
        asked, turned = (asked * rows)[:rows], (turned * rows)[:rows]
        if self.router is None:
            return asked, turned
        acting: list[Knobs] = [{} for _ in asked]
        for question in dict.fromkeys(asked):  # the router reads each question once
            places = [place for place, other in enumerate(asked) if other == question]
            _, found = routed(self.router, self.knobbed, (question,), [turned[place] for place in places])
            for place, knobs in zip(places, found, strict=True):
                acting[place] = dict(knobs)
        return asked, acting


def _several(given: Any) -> list[Any]:
    """What may be given as one or as several, as a list."""
    one = isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable)
    return [given] if one else list(given)


def _text(given: Any, name: str) -> str:
    if not isinstance(given, str):
        raise DataError(f"{name} is a text, not {_kind(given)}; for a chat use .knobbed.continue_chats")
    return given


def _place(given: Any, name: str, wrong: type[AlignvecError]) -> str:
    if not isinstance(given, str | PathLike):
        raise wrong(f"{name} is a text or a path, not {_kind(given)}; see help(alignvec.load)")
    return str(given)


def _kind(given: Any) -> str:
    return "None" if given is None else type(given).__name__


def _sampling(options: SamplingOptions) -> Sampling:
    try:
        return Sampling(**options)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(map(str, wrong["loc"]))
        raise ConfigError(f"{name}: {wrong['msg']}; the options are {', '.join(Sampling.model_fields)}") from None


def load_model(
    model: str | Path,
    vectors: str | Path | Sequence[str | Path] | None,
    *,
    router: str | Path | None,
    dtype: str,
    device: str | None,
    allow_other_base: bool,
) -> LoadedModel:
    """See `alignvec.load`."""
    name = _place(model, "a model", ModelError)
    folders = None if vectors is None else [Path(_place(one, "a vector", VectorError)) for one in _several(vectors)]
    routing = None if router is None else Path(_place(router, "a router", VectorError))
    if folders is not None and not folders:
        knobbed = KnobbedModel(models.load(name, dtype=dtype, device=device))
    else:
        knobbed = load_knobbed(name, folders, dtype=dtype, device=device, allow_other_base=allow_other_base)
    return LoadedModel(knobbed, None if routing is None else router_for(knobbed.base, routing))
