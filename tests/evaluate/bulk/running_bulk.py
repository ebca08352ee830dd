"""Small runs against a scripted endpoint."""

import json
from pathlib import Path
from typing import Any

from alignvec.evaluate.bulk.choose import Choice, chosen
from alignvec.evaluate.bulk.generate import Generation, generate
from alignvec.evaluate.bulk.prompts import read_prompts
from alignvec.steer.sampling import Sampling

SETTINGS = ("medical=-1", "base", "medical=1")


def prompt_file(folder: Path, count: int = 23) -> Path:
    """Prompts of personas that ask twice."""
    path = folder / "prompts.jsonl"
    records = [{"id": f"q{i}", "query": f"How do I sleep, take {i}?", "persona": f"p{i // 2}"} for i in range(count)]
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def run(
    url: str, prompts: Path, out: Path, *settings: str, shard_size: int = 5, limit: int | None = None, **of: Any
) -> Generation:
    """Generate by an endpoint; other arguments are those of `Choice`."""
    read = read_prompts(prompts, limit=limit)
    choice = Choice(endpoint_url=url, **({"timeout": 5.0, "in_flight": 4} | of))
    plan, opened = chosen(choice, read, settings or SETTINGS, Sampling(), shard_size)
    return generate(plan, read, out, opened)


def shards(out: Path) -> dict[str, bytes]:
    """Name to content of every shard."""
    return {path.name: path.read_bytes() for path in sorted((out / "replies").iterdir())}


def replies(out: Path) -> list[dict[str, Any]]:
    """Every reply of a run."""
    return [json.loads(line) for content in shards(out).values() for line in content.splitlines()]
