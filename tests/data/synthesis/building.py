"""A small domain and jobs on a scripted teacher."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignvec.data.domain import load_domain
from alignvec.data.synthesis.job import Job
from alignvec.data.synthesis.prompts import load_prompts
from alignvec.data.synthesis.settings import BuildSettings
from alignvec.data.teacher.endpoint import Endpoint
from tests.scripted_teacher import WORDS, Body, reply_to, text_of

SETTINGS = BuildSettings(domain=load_domain("medical"), prompts=load_prompts(), teacher="scripted", judge="scripted")


def job(url: str, out: Path, *, personas: int = 6, settings: BuildSettings = SETTINGS, **changes: Any) -> Job:
    """A job of all stages."""
    made = Job(settings, out, personas, Endpoint(url, in_flight=8, timeout=5.0))
    return replace(made, **changes)


def key_of(body: Body) -> str:
    """The cache's key of a request's body, worked out independently."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def records(path: Path) -> list[dict[str, Any]]:
    """Records of a JSON-lines file, without what two equal runs differ in: the time of an answer."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for record in found:
        if "provenance" in record:
            del record["provenance"]["time"]
    return found


def fickle(body: Body) -> str:
    """Now and then an answer of the wrong level or length, or with an address, as the request decides."""
    number = int(key_of(body)[:4], 16)
    text = reply_to(body)
    system = body["messages"][0]["content"]
    if "sort replies" in system:
        return text
    if number % 11 == 0:
        return f"{text} Write to jane.doe@example.org."
    if number % 7 == 0 and "Reply in" in system:
        wrong = next(level for level in ("avoidance", "generic", "expert") if WORDS[level].split()[0] not in text)
        return text_of(body, wrong, 60)
    if number % 13 == 0:
        return "Far too short."
    return text


PEOPLE = [(31, "beekeeper", "Lyon"), (58, "bus driver", "Lagos"), (44, "violinist", "Osaka"), (70, "printer", "Quito")]
