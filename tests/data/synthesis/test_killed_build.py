"""Killed at twenty random points, a build ends as if it had never been, and asks for nothing that was answered."""

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from alignvec.data.synthesis.build import build
from tests.data.synthesis.building import fickle, job, key_of, records
from tests.scripted_teacher import serving

PROGRAM = """
import sys
from pathlib import Path
from alignvec.data.synthesis.build import build
from tests.data.synthesis.building import job
build(job(sys.argv[1], Path(sys.argv[2]), personas=int(sys.argv[3])))
"""
PERSONAS = 24


def kept(out: Path) -> set[str]:
    """Keys of the answers that the cache holds."""
    database = sqlite3.connect(out / "answers.sqlite")
    try:
        return {key for (key,) in database.execute("SELECT key FROM answers")}
    finally:
        database.close()


def test_a_build_killed_at_twenty_random_points_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    generator = random.Random(20)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with serving(answer=fickle) as teacher:
        build(job(teacher.url, whole, personas=PERSONAS))
        needed = len(teacher.bodies)
    points = sorted(generator.sample(range(1, needed - 10), 20))
    asked_twice = 0
    with serving(answer=fickle, latency=0.004) as teacher:
        for point in points:
            known = kept(broken) if broken.exists() else set()
            before = len(teacher.bodies)
            run = subprocess.Popen([sys.executable, "-c", PROGRAM, teacher.url, str(broken), str(PERSONAS)])
            while len(known) + len(teacher.bodies) - before < point and run.poll() is None:
                time.sleep(0.001)
            run.kill()
            assert run.wait() == -9, "the build ended before it was killed"
            again = known & {key_of(body) for body in teacher.bodies[before:]}
            assert not again, "a request that was answered was asked again"
            assert not (broken / "rows.jsonl").exists(), "half a result"
        known, before = kept(broken), len(teacher.bodies)
        subprocess.run([sys.executable, "-c", PROGRAM, teacher.url, str(broken), str(PERSONAS)], check=True)
        assert {key_of(body) for body in teacher.bodies[before:]}.isdisjoint(known)
        asked_twice = len(teacher.bodies) - needed
    for name in ("personas", "queries", "rows", "rejected"):
        assert records(broken / f"{name}.jsonl") == records(whole / f"{name}.jsonl"), name
    assert asked_twice <= 20 * 8, "more than what was in flight at each kill"
    assert not list(broken.glob(".*.part"))


DIES_AT = """
import os, signal, sys
from pathlib import Path
from alignvec.data.synthesis.build import build
from tests.data.synthesis.building import job
left, rename = int(sys.argv[3]), Path.replace
def replace(self, target):
    global left
    if self.suffix == ".part":
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.replace = replace
build(job(sys.argv[1], Path(sys.argv[2])))
"""


def test_a_build_killed_while_its_files_are_put_in_place_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with serving(answer=fickle) as teacher:
        build(job(teacher.url, whole))
        needed, deaths = len(teacher.bodies), 0
        for renames in range(20):
            run = subprocess.run([sys.executable, "-c", DIES_AT, teacher.url, str(broken), str(renames)], check=False)
            if run.returncode == 0:
                break
            assert run.returncode == -9
            deaths += 1
        assert len(teacher.bodies) == 2 * needed
    assert deaths >= 4  # rejected texts, personas, queries, rows
    for name in ("personas", "queries", "rows", "rejected"):
        assert records(broken / f"{name}.jsonl") == records(whole / f"{name}.jsonl"), name
    assert not list(broken.glob(".*.part"))
