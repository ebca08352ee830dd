"""A scripted endpoint that turns knobs: the coefficient decides the vocabulary of a reply, and every answer tells it.

Run as a program, it prints its URL and serves until it is killed, in memory that does not grow with the requests.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.scripted_teacher import Body, Fault, ScriptedTeacher, completion, serving, text_of

WELL: Fault = lambda _number, _body: None  # noqa: E731
ABOUT = {
    "object": "list",
    "model": "scripted",
    "data": [
        {
            "name": name,
            "levels": {"avoidance": -1.0, "generic": 0.0, "expert": 1.0},
            "usable_range": [-1.0, 1.0],
            "percent_curve": [[0.0, 0.0], [1.0, 1.0]],
        }
        for name in ("legal", "medical")
    ],
    "router": None,
}
Echo = Callable[[dict[str, float]], Any]


def level_at(coefficient: float) -> str:
    """The vocabulary at a coefficient of the medical knob."""
    return "avoidance" if coefficient < -0.3 else "expert" if coefficient > 0.3 else "generic"


def reply_at(body: Body) -> str:
    """What is answered; an empty body is the question what is served."""
    if not body:
        return ""
    asked = body.get("alignment")
    if asked is None:
        asked = dict(part.split("=") for part in body["model"].partition(":")[2].split(",") if part)
    return text_of(body, level_at(float(asked.get("medical", 0.0))), 30)


def told(applied: dict[str, float]) -> Any:
    """The field `alignment` of an honest answer."""
    return {"requested": applied, "applied": applied, "clamped": {}, "forced": {}, "routed": {}}


def content(about: Any, echo: Echo) -> Callable[[Body, str], bytes]:
    """Bodies of answers: `about` to an empty one, completions with what `echo` makes of the knobs to others."""

    def write(body: Body, text: str) -> bytes:
        if not body:
            return json.dumps(about).encode()
        answer = json.loads(completion(body, text))
        if "alignment" in body:
            answer["alignment"] = echo(body["alignment"])
        return json.dumps(answer).encode()

    return write


@contextmanager
def turning(fault: Fault = WELL, *, about: Any = ABOUT, echo: Echo = told, **options: Any) -> Iterator[ScriptedTeacher]:
    """The endpoint in a thread of its own.

    Args:
        fault: see `ScriptedTeacher`; asked about replies only.
        about: answered to `GET /v1/alignment`; None: 404.
        echo: the field `alignment` of an answer, from the knobs of its request.
        options: of `ScriptedTeacher`.
    """

    def faults(number: int, body: Body) -> str | None:
        return fault(number, body) if body else ("404" if about is None else None)

    with serving(faults, answer=reply_at, content=content(about, echo), **options) as endpoint:
        yield endpoint


class _Forgetful(list[Any]):
    def append(self, _: Any) -> None:
        """Keep nothing."""


async def _main() -> None:
    endpoint = ScriptedTeacher(answer=reply_at, content=content(ABOUT, told))
    endpoint.bodies, endpoint.heads = _Forgetful(), _Forgetful()
    async with endpoint:
        print(endpoint.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
