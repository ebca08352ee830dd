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


@dataclass(frozen=True)
class Turned:
    """A request as it goes to vLLM.

    Attributes:
        body: what vLLM gets.
        setting: its knobs.
        model: as the request names it.
        choices: number of replies.
        usage: a stream's client has asked for the usage.
    """

    body: dict[str, Any]
    setting: Setting
    model: str
    choices: int
    usage: bool


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
        if not isinstance(model, str):
            raise BadRequestError("model must be a name", param="model")
        named = model_knobs(model, self.plan.model)
        header = header_knobs(",".join(filter(str.strip, headers.getlist(HEADER))))
        asked: list[Asked] = [named, header, _alignment(sent.pop("alignment", None))]
        setting = resolve_request(asked, self.goals, self.scales, rules, strict=self.plan.strict)
        setting = self._apply(sent, setting, rules)
        choices = _choices(sent)
        _limit_tokens(sent, rules)
        usage = _with_usage(sent)
        return Turned(sent, setting, model, choices, usage)

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


def _choices(sent: Mapping[str, Any]) -> int:
    """Number of replies; what is no number is left to vLLM, which refuses it."""
    n, prompt = sent.get("n"), sent.get("prompt")
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    choices = (n if isinstance(n, int) and n > 0 else 1) * (len(prompt) if several and prompt else 1)
    if choices > MOST_CHOICES:
        raise BadRequestError(f"more than {MOST_CHOICES} replies in all; ask for fewer", param="n")
    return choices


def _limit_tokens(sent: dict[str, Any], rules: Rules) -> None:
    if rules.max_tokens is None:
        return
    wanted = [sent[name] for name in LIMITS if sent.get(name) is not None]
    for tokens in wanted:
        if isinstance(tokens, int | float) and tokens > rules.max_tokens:
            raise TooLongError(
                f"max_tokens is {tokens}, but this key may have at most {rules.max_tokens}; ask for fewer",
                param="max_tokens",
            )
    if not wanted:
        sent["max_tokens"] = rules.max_tokens


def _with_usage(sent: dict[str, Any]) -> bool:
    """Have a stream tell its usage, for the audit log; returns whether the client wants it."""
    options = sent.get("stream_options")
    if not sent.get("stream"):
        return True
    if options is not None and not isinstance(options, dict):
        return True  # which vLLM refuses
    sent["stream_options"] = {**(options or {}), "include_usage": True}
    return bool((options or {}).get("include_usage"))
