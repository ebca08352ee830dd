"""One server, three audiences: the public, a clinic and a back office, each with a key and its own limits.

Shows: the official openai client, knobs set by a key's policy, knobs asked for by a request, and a request refused.
Needs: the extras `serve` and `data` (`make install` has them), and a server with this policy:
           alignvec serve --port 8000 --policy examples/three_audiences.yaml
Run:   python examples/three_audiences.py [URL]    default: $ALIGNVEC_URL, else http://127.0.0.1:8000
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import openai

QUESTION = "I have chest pain when I climb stairs. What should I do?"
AUDIENCES: dict[str, dict[str, float | str]] = {  # what each asks for, beside what its key's policy says
    "public": {},
    "clinic": {},
    "office": {"medical": "generic"},
}
url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ALIGNVEC_URL", "http://127.0.0.1:8000")


def ask(audience: str, knobs: dict[str, float | str]) -> tuple[str, dict[str, float]]:
    """The reply, and the knobs that the server applied."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=f"av-example-{audience}")
    reply = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=60,
        temperature=0.7,
        seed=0,
        extra_body={"alignment": knobs, "repetition_penalty": 1.1},
    )
    return reply.choices[0].message.content or "", (reply.model_extra or {})["alignment"]["applied"]


try:
    with ThreadPoolExecutor() as pool:  # at the same time: the server answers them in one batch
        for audience, (text, applied) in zip(AUDIENCES, pool.map(ask, AUDIENCES, AUDIENCES.values()), strict=True):
            print(f"── {audience}: {applied} ──\n{text}\n")
except openai.OpenAIError as error:
    cause = str(error).rstrip(".")
    sys.exit(f"{url}: {cause}; start a server: alignvec serve --port 8000 --policy examples/three_audiences.yaml")

try:
    ask("public", {"medical": "expert"})
except openai.PermissionDeniedError as refused:
    print(f"── public asks for medical=expert ──\n{refused.status_code}: {refused.body['message']}")  # type: ignore[index]
