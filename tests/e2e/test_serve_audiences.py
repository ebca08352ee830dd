"""One server of the demo model, its policy and shipped vectors, and three audiences with the official client."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import yaml

from alignvec import models
from alignvec.serve.policy.keys import key_hash
from alignvec.steer.model import KnobbedModel
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.store import load_vector

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
QUESTION = "I have chest pain when I climb stairs. What should I do?"
SETTINGS = [{"medical": m, "legal": n} for m in (-1.0, -0.3, 0.4, 1.0) for n in (-1.0, 0.0, 0.5, 1.0)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("served")
    public = {"vectors": {"medical": {"max": 0, "default": "avoidance"}}, "max_tokens": 64}
    keys = [
        {"name": "public", "hash": key_hash("av-public"), **public},
        {"name": "clinic", "hash": key_hash("av-clinic")},
    ]
    (folder / "policy.yaml").write_text(yaml.safe_dump({"keys": keys}))
    options = ["--port", "0", "--policy", folder / "policy.yaml", "--audit", folder / "audit.jsonl"]
    command = [sys.executable, "-m", "alignvec.cli.app", "serve", "--vectors", ROOT / "vectors", *options]
    running = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, env=os.environ)
    assert running.stderr is not None
    url = next(found[0] for line in running.stderr if (found := re.findall(r"http://\S+", line)))
    yield f"{url}/v1", folder / "audit.jsonl"
    running.terminate()
    assert running.wait(60) == 0


def ask(url: str, key: str, **alignment: float | str) -> openai.types.chat.ChatCompletion:
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
    return client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=48,
        extra_body={"alignment": alignment},
    )


def test_every_audience_has_its_own_answer_and_its_own_limits(server: tuple[str, Path]) -> None:
    url, audit = server
    public, clinic = ask(url, "av-public"), ask(url, "av-clinic", medical="expert")
    assert public.model_extra is not None and clinic.model_extra is not None
    assert public.model_extra["alignment"]["applied"] == {"medical": -1.0}
    assert clinic.model_extra["alignment"]["applied"] == {"medical": 1.0}
    assert public.choices[0].message.content != clinic.choices[0].message.content
    with pytest.raises(openai.PermissionDeniedError, match="medical"):
        ask(url, "av-public", medical=0.5)
    with pytest.raises(openai.PermissionDeniedError, match="legal"):
        ask(url, "av-public", legal=1)
    with pytest.raises(openai.AuthenticationError):
        ask(url, "av-nobody")
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert [(line["key"], line["status"]) for line in lines] == [
        ("public", 200), ("clinic", 200), ("public", 403), ("public", 403), (None, 401)
    ]  # fmt: skip
    assert "chest" not in audit.read_text() and "av-" not in audit.read_text()


def test_sixteen_settings_at_once_are_what_each_is_alone(server: tuple[str, Path]) -> None:
    async def all_at_once() -> list[str]:
        client = openai.AsyncOpenAI(base_url=server[0], api_key="av-clinic", timeout=300)

        async def one(setting: dict[str, float]) -> str:
            reply = await client.chat.completions.create(
                model="demo",
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                max_tokens=24,
                extra_body={"alignment": setting},
            )
            return (reply.choices[0].message.content or "").strip()

        return await asyncio.gather(*map(one, SETTINGS))

    vectors = [load_vector(ROOT / "vectors" / name) for name in ("medical", "legal")]
    alone = KnobbedModel(models.load("demo"), vectors)
    sampling = GREEDY.model_copy(update={"max_new_tokens": 24})
    expected = [alone.generate([QUESTION], setting, sampling)[0] for setting in SETTINGS]
    assert len(set(expected)) >= 12
    assert asyncio.run(all_at_once()) == expected
