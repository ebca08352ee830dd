"""Answers are kept under the whole request, survive a kill, and a damaged file is told."""

import dataclasses
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.request import Answer, Request, derived_seed
from alignvec.errors import DataError, StorageError

REQUEST = Request("m", (("system", "be brief"), ("user", "why?")), 0.7, 0.95, 100, 3)
ANSWER = Answer("because", "stop", 11, 2, "2026-01-01T00:00:00+00:00")


def test_an_answer_is_found_again_by_an_equal_request_only(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        cache.put(REQUEST, ANSWER)
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        assert cache.get(Request("m", (("system", "be brief"), ("user", "why?")), 0.7, 0.95, 100, 3)) == ANSWER
        others = (
            {"model": "n"},
            {"messages": (("system", "be brief"), ("user", "why ?"))},
            {"messages": (("user", "be brief"), ("user", "why?"))},
            {"temperature": 0.8},
            {"top_p": 1.0},
            {"max_tokens": 101},
            {"seed": 4},
        )
        for other in others:
            assert cache.get(dataclasses.replace(REQUEST, **other)) is None, other  # type: ignore[arg-type]
        assert cache.tokens() == (11, 2)


def test_tokens_are_summed_over_all_answers(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        assert cache.tokens() == (0, 0)
        for seed in range(5):
            cache.put(dataclasses.replace(REQUEST, seed=seed), ANSWER)
        cache.put(REQUEST, ANSWER)
        assert cache.tokens() == (55, 10)


KILLED = """
import os, signal, sys
from pathlib import Path
from alignvec.data.teacher.cache import AnswerCache
from alignvec.data.teacher.request import Answer, Request
cache = AnswerCache(Path(sys.argv[1]))
for seed in range(50):
    cache.put(Request("m", (("user", "q"),), 0.0, 1.0, 10, seed), Answer(str(seed), "stop", 1, 1, "t"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_put_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    with AnswerCache(path) as cache:
        texts = [cache.get(Request("m", (("user", "q"),), 0.0, 1.0, 10, seed)) for seed in range(50)]
    assert [one.text for one in texts if one] == [str(seed) for seed in range(50)]


def test_a_file_that_is_no_cache_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"my precious notes" * 100)
    with pytest.raises(DataError, match="damaged or no cache"):
        AnswerCache(path)
    assert path.read_bytes() == b"my precious notes" * 100


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot"):
        AnswerCache(tmp_path / "file" / "a.sqlite")


def test_a_disk_that_fills_up_during_a_build_is_told_and_loses_no_answer(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        cache.put(REQUEST, ANSWER)
        cache._database.execute("PRAGMA max_page_count = 1")  # what is there stays; SQLite says that its disk is full
        with pytest.raises(StorageError, match=r"disk is full; free some space"):
            for seed in range(100):
                cache.put(dataclasses.replace(REQUEST, seed=100 + seed), dataclasses.replace(ANSWER, text="x" * 5000))
        assert cache.get(REQUEST) == ANSWER


def test_a_cache_whose_table_another_program_replaces_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with AnswerCache(path) as cache:
        cache.put(REQUEST, ANSWER)
    with AnswerCache(path) as cache:
        other = sqlite3.connect(path)
        other.execute("DROP TABLE answers")
        other.execute("CREATE TABLE answers (key TEXT)")
        other.close()
        for use in (lambda: cache.get(REQUEST), lambda: cache.put(REQUEST, ANSWER), cache.tokens):
            with pytest.raises(StorageError, match=r"cannot use .*a\.sqlite"):
                use()


def test_derived_seeds_depend_on_every_part_and_fit_31_bits() -> None:
    seeds = {
        derived_seed(*parts) for parts in ((0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "b", 1), (0, "a1"), (0, "a"))
    }
    assert len(seeds) == 6
    assert all(0 <= derived_seed(n) < 2**31 for n in range(1000))
    assert derived_seed(0, "a", 1) == derived_seed(0, "a", 1)
