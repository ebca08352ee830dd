"""Killed at random points, a run ends as an unbroken one, and asks for nothing that it had kept."""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.data.synthesis.building import key_of
from tests.evaluate.bulk.running_bulk import prompt_file, run, shards
from tests.turning_endpoint import turning

PROGRAM = """
import sys
from pathlib import Path
from tests.evaluate.bulk.running_bulk import run
run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
"""
KILLS = 4


def kept(out: Path) -> set[str]:
    """Keys of the answers that the run holds."""
    if not (out / "answers.sqlite").exists():
        return set()
    database = sqlite3.connect(out / "answers.sqlite")
    try:
        return {key for (key,) in database.execute("SELECT key FROM answers")}
    finally:
        database.close()


def test_a_run_killed_at_random_points_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    prompts, broken = prompt_file(tmp_path, 60), tmp_path / "broken"
    with turning() as endpoint:
        run(endpoint.url, prompts, tmp_path / "whole")
    points = sorted(random.Random(6).sample(range(5, 170), KILLS))
    finished: dict[str, bytes] = {}
    asked: list[str] = []
    with turning(latency=0.01) as endpoint:

        def new() -> list[str]:
            """Keys of what was asked since the last look."""
            keys = [key_of(body) for body in endpoint.bodies if body]
            found = keys[len(asked) :]
            asked.extend(found)
            return found

        for point in points:
            known = kept(broken)
            process = subprocess.Popen([sys.executable, "-c", PROGRAM, endpoint.url, str(prompts), str(broken)])
            while len(set(asked) | {key_of(b) for b in endpoint.bodies if b}) < point and process.poll() is None:
                time.sleep(0.002)
            process.kill()
            assert process.wait() == -9, "the run ended before it was killed"
            assert known.isdisjoint(new()), "a reply that was kept was asked for again"
            if (broken / "replies").exists():
                now = {name: content for name, content in shards(broken).items() if name.endswith(".jsonl")}
                assert finished.items() <= now.items(), "a finished shard was changed"
                finished = now
        known = kept(broken)
        subprocess.run([sys.executable, "-c", PROGRAM, endpoint.url, str(prompts), str(broken)], check=True)
        assert known.isdisjoint(new())
    assert shards(broken) == shards(tmp_path / "whole")
    assert len(asked) <= 180 + KILLS * 4, "more than what was in flight at each kill"
