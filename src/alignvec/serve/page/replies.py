"""From a chat and sliders to streamed text, through the same admission, limits and batch as the API."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from html import escape, unescape
from typing import TYPE_CHECKING, Any

from alignvec.errors import AlignvecError
from alignvec.serve.ask import Ask
from alignvec.serve.errors import BadRequestError
from alignvec.serve.setting import Setting
from alignvec.steer.knobs import format_knobs
from alignvec.steer.routed import format_probabilities, user_turns
from alignvec.steer.sampling import Sampling

if TYPE_CHECKING:
    from alignvec.serve.service import Service

ENDPOINT = "page"
"""What the audit log and the metrics call the page."""


@contextmanager
def refusals_noted(service: "Service", key: str | None, endpoint: str = ENDPOINT) -> Iterator[None]:
    """Write down what is refused inside, with the name of the key if it is known."""
    try:
        yield
    except AlignvecError as error:
        name = None
        with suppress(AlignvecError):
            name = service.rules(key or None).name
        service.refused(endpoint, name, error)
        raise


def applied(service: "Service", key: str | None, knobs: Mapping[str, float], endpoint: str = ENDPOINT) -> Setting:
    """What the key's policy makes of the sliders; one at 0 asks for nothing, unless the policy has a default there.

    Raises:
        UnauthorizedError: if the key is not known.
        ForbiddenError: if the key may not use these knobs.
    """
    with refusals_noted(service, key, endpoint):
        rules = service.rules(key or None)
        at_rest = service.setting(rules, [])
        defaults = at_rest.applied.keys() - at_rest.forced.keys()
        return service.setting(rules, [{name: value for name, value in knobs.items() if value or name in defaults}])


def remark(setting: Setting) -> str:
    """One line on where the setting is not what the sliders say; empty if it is."""
    parts = [f"{name} is cut to its usable range, {low:g} to {high:g}" for name, (low, high) in setting.clamped.items()]
    parts += [f"{name} is fixed at {value:g} for this key" for name, value in setting.forced.items()]
    if setting.routed:
        knobs = format_knobs({name: round(value, 2) + 0.0 for name, value in setting.applied.items()})
        parts.append(f"routed ({format_probabilities(setting.routed)}): {knobs}")
    return "; ".join(parts)


async def reply(
    service: "Service", key: str | None, messages: Sequence[Mapping[str, str]], setting: Setting
) -> AsyncGenerator[tuple[str, Setting], None]:
    """Text of the reply so far with the knobs applied, each time that it has grown; closing it frees the request's row.

    Raises:
        ServeError: if the request is refused or fails.
    """
    with refusals_noted(service, key):
        if not messages[-1]["content"].strip():
            raise BadRequestError("there is no question; type one first")
        rules = service.rules(key or None)
        prompt = await asyncio.to_thread(service.chat_prompt, messages)
    ask = Ask(
        prompts=[prompt],
        sampling=Sampling(max_new_tokens=service.reply_tokens(prompt, rules)),
        setting=setting,
        text=json.dumps(messages, ensure_ascii=False),
        user=user_turns(messages),
        endpoint=ENDPOINT,
    )
    text = ""
    async with aclosing(service.pieces(ask, rules)) as pieces:
        async for piece in pieces:
            text += piece.text
            yield text, piece.setting


def shown(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Messages for Gradio's chat, which takes texts for HTML even where Markdown is off; `plain` undoes it."""
    return [{"role": message["role"], "content": escape(message["content"])} for message in messages]


def plain(history: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Messages of Gradio's chat, whose contents are texts or lists of parts, as they were before `shown`."""
    return [{"role": message["role"], "content": unescape(_text(message["content"]))} for message in history]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))
