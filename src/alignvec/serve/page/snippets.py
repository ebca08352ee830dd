"""The current question and knobs as a command for curl and as a program for the openai client."""

import json
import shlex
from collections.abc import Mapping

from alignvec.steer.sampling import Sampling

PENALTY = "repetition_penalty"
SAMPLING = Sampling().model_dump(include={"temperature", "top_p", PENALTY, "seed"})
"""How the page samples; the API's own defaults are OpenAI's."""
KEY_VARIABLE = "ALIGNVEC_API_KEY"
"""Environment variable that the snippets read the API key from; the key itself is never written into them."""


def curl(address: str, model: str, question: str, knobs: Mapping[str, float], *, key: bool) -> str:
    """A POSIX shell command that asks the question.

    Args:
        address: the server's address, with or without a slash at its end.
        model: name of the model.
        question: the user's message.
        knobs: vector name to λ.
        key: whether the server asks for an API key.
    """
    lines = [f"curl {shlex.quote(_base(address) + '/chat/completions')}", "-H 'Content-Type: application/json'"]
    if key:
        lines.append(f'-H "Authorization: Bearer ${KEY_VARIABLE}"')
    lines.append(f"-d {shlex.quote(json.dumps(_request(model, question, knobs), ensure_ascii=False))}")
    return " \\\n  ".join(lines)


def python(address: str, model: str, question: str, knobs: Mapping[str, float], *, key: bool) -> str:
    """A Python program for the openai client that asks the question; the arguments are those of `curl`."""
    api_key = f'os.environ["{KEY_VARIABLE}"]' if key else '"none"'
    return (
        ("import os\n\n" if key else "") + "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={_base(address)!r}, api_key={api_key})\n"
        "reply = client.chat.completions.create(\n"
        f"    model={model!r},\n"
        f'    messages=[{{"role": "user", "content": {question!r}}}],\n'
        + "".join(f"    {name}={value!r},\n" for name, value in SAMPLING.items() if name != PENALTY)
        + f'    extra_body={{"alignment": {dict(knobs)!r}, "{PENALTY}": {SAMPLING[PENALTY]!r}}},\n'
        ")\n"
        "print(reply.choices[0].message.content)\n"
    )


def _base(address: str) -> str:
    return address.rstrip("/") + "/v1"


def _request(model: str, question: str, knobs: Mapping[str, float]) -> Mapping[str, object]:
    messages = [{"role": "user", "content": question}]
    return {"model": model, "messages": messages, **SAMPLING, "alignment": dict(knobs)}
