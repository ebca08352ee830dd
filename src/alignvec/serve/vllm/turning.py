"""A request for alignvec as a request that vLLM understands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.datastructures import Headers

from alignvec.engines.vllm.compose import Composer, rounded
from alignvec.engines.vllm.plan import XARG, Plan
from alignvec.errors import AlignvecError
from alignvec.serve.api.body import MOST_CHOICES
from alignvec.serve.api.knobs import HEADER, header_knobs, model_knobs
from alignvec.serve.errors import BadRequestError, TooLongError
from alignvec.serve.policy.rules import Rules, usable_range
from alignvec.serve.resolve import resolve_request
from alignvec.serve.setting import Asked, Setting
from alignvec.steer.knobs import format_knobs
from alignvec.steer.scale import Scale
from alignvec.steer.solved import SolvedSetting

LIMITS: Final = ("max_tokens", "max_completion_tokens")
LONGEST_NAME: Final = 10_000


@dataclass(frozen=True)
class Turned:
    """A request as it goes to vLLM.

    Attributes:
        body: what vLLM gets.
        setting: its knobs.
        model: as the request names it.
        choices: number of replies.
        usage: a stream's client has asked for the usage at its end.
        each: it has asked for the usage on every part.
    """

    body: dict[str, Any]
    setting: Setting
    model: str
    choices: int
    usage: bool = True
    each: bool = True


@dataclass(frozen=True)
class Turner:
    """Turns requests by one plan.

    Attributes:
        plan: see `Plan`.
        scales: of the vectors.
        goals: that requests may name.
        composer: with `adapters`.
    """

    plan: Plan
    scales: Mapping[str, Scale]
    goals: Mapping[str, SolvedSetting]
    composer: Composer | None = None

    def turn(self, body: Mapping[str, Any], headers: Headers, rules: Rules) -> Turned:
        """The request for vLLM.

        Raises:
            UnknownModelError: if the model is not the served one.
            BadRequestError: if knobs cannot be read, or vLLM could not honour them.
            ForbiddenError: if the key may not turn them so far.
            TooLongError: if the key may not have so many tokens.
        """
        sent = dict(body)
        model = sent.get("model") or self.plan.model
        if not isinstance(model, str) or len(model) > LONGEST_NAME:
            raise BadRequestError(f"model must be a name of at most {LONGEST_NAME} characters", param="model")
        named = model_knobs(model, self.plan.model)
        header = header_knobs(",".join(filter(str.strip, headers.getlist(HEADER))))
        asked: list[Asked] = [named, header, _alignment(sent.pop("alignment", None))]
        setting = resolve_request(asked, self.goals, self.scales, rules, strict=self.plan.strict)
        setting = self._apply(sent, setting, rules)
        _check_parts(sent.get("messages"))
        choices = _choices(sent)
        _limit_tokens(sent, rules)
        return Turned(sent, setting, model, choices, *_with_usage(sent))

    def _apply(self, sent: dict[str, Any], setting: Setting, rules: Rules) -> Setting:
        """Put the knobs where vLLM looks for them; returns what is really applied."""
        xargs = sent.get("vllm_xargs")
        if xargs is not None and (not isinstance(xargs, dict) or XARG in xargs):
            raise BadRequestError(f"vllm_xargs must be an object without {XARG}; send knobs in alignment")
        sent["model"] = self.plan.model
        if self.plan.way == "gate":
            turned = {name: value for name, value in setting.applied.items() if value}
            if turned and sent.get("use_beam_search"):
                raise BadRequestError("beam search has no knobs on this server; leave it, or the knobs, out")
            if turned:
                sent["vllm_xargs"] = {**(xargs or {}), XARG: format_knobs(turned)}
            return setting
        assert self.composer is not None
        applied = {name: self._rounded(self.scales[name], value, rules) for name, value in setting.applied.items()}
        try:
            self.composer.check(applied)
        except AlignvecError as error:
            raise BadRequestError(str(error), param="alignment") from None
        sent["model"] = self.composer.name(applied)
        return setting.model_copy(update={"applied": applied})

    def _rounded(self, scale: Scale, value: float, rules: Rules) -> float:
        bound, (low, high) = rules.bound(scale), usable_range(scale)
        if bound is not None:
            low, high = max(low, bound.low), min(high, bound.high)
        return rounded(value, self.plan.step, low, high)


_KNOBS: TypeAdapter[dict[str, float | str]] = TypeAdapter(
    dict[str, float | str], config=ConfigDict(strict=True, allow_inf_nan=False)
)


def _alignment(value: Any) -> dict[str, float | str]:
    try:
        return {} if value is None else _KNOBS.validate_python(value)
    except ValidationError:
        raise BadRequestError(
            'alignment must hold a number, a level or a percentage for each vector, such as {"medical": 0.5}',
            param="alignment",
        ) from None


def _check_parts(messages: Any) -> None:
    """Check that no part of a message has a kind that could be an adapter's name, which vLLM would take it for."""
    contents = [one.get("content") for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
    if any(":" in str(part.get("type")) for part in parts):
        raise BadRequestError("a part of a message has no such type; use text", param="messages")


def _number(sent: Mapping[str, Any], name: str) -> int | None:
    """A field that is a whole number or left out: what vLLM would make of others is not what is checked here."""
    value = sent.get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise BadRequestError(f"{name} must be a whole number, 1 or more", param=name)
    return value


def _choices(sent: Mapping[str, Any]) -> int:
    prompt = sent.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and not all(type(token) is int for token in prompt) else 1
    choices = (_number(sent, "n") or 1) * prompts
    if choices > MOST_CHOICES:
        raise BadRequestError(f"more than {MOST_CHOICES} replies in all; ask for fewer", param="n")
    return choices


def _limit_tokens(sent: dict[str, Any], rules: Rules) -> None:
    wanted = [found for name in LIMITS if (found := _number(sent, name)) is not None]
    if rules.max_tokens is None:
        return
    tokens = max(wanted, default=rules.max_tokens)
    if tokens > rules.max_tokens:
        raise TooLongError(
            f"max_tokens is {tokens}, but this key may have at most {rules.max_tokens}; ask for fewer",
            param="max_tokens",
        )
    for name in LIMITS:  # each endpoint reads one of them, or both
        sent.pop(name, None)
    sent["max_tokens"] = tokens


def _with_usage(sent: dict[str, Any]) -> tuple[bool, bool]:
    """Have a stream tell its usage with every part, for the audit log; returns what of it the client wants."""
    options = sent.get("stream_options") or {}
    if not sent.get("stream"):
        return True, True
    if not isinstance(options, dict):
        raise BadRequestError("stream_options must be an object", param="stream_options")
    sent["stream_options"] = {**options, "include_usage": True, "continuous_usage_stats": True}
    return bool(options.get("include_usage")), bool(options.get("continuous_usage_stats"))
