import json
import time
from pathlib import Path

import pytest

from alignvec.errors import ConfigError, DataError
from alignvec.reproduce import stage as stages
from alignvec.reproduce.place import Place
from alignvec.reproduce.scale import Scale
from alignvec.reproduce.stage import Section, Stage, dependents, digest, run_stage
from alignvec.vectors.strict import Strict


class Number(Strict):
    value: int


def make(
    name: str, value: int = 1, *, needs: tuple[str, ...] = (), keys: tuple[str, ...] = ()
) -> tuple[Stage, list[int]]:
    calls: list[int] = []

    def measure(place: Place) -> Number:
        calls.append(value)
        return Number(value=value + sum(place.found(one).value for one in needs))

    return Stage(name, name, Number, measure, lambda *_: Section(), keys=keys, needs=needs), calls


def place(out: Path, **scale: object) -> Place:
    return Place(Scale.model_validate(scale), out, lambda *_: None)


def test_a_result_is_measured_once_and_read_afterwards(tmp_path: Path) -> None:
    stage, calls = make("first", 3)
    first = run_stage(stage, place(tmp_path))
    again = place(tmp_path)
    second = run_stage(stage, again)
    assert (first, calls) == (second, [3])
    assert again.found("first") == Number(value=3)
    assert not (tmp_path / "data" / "first.seconds").exists()


def test_a_stage_reads_what_it_needs_and_is_bound_to_it(tmp_path: Path) -> None:
    first, _ = make("first", 3)
    second, _ = make("second", 4, needs=("first",))
    here = place(tmp_path)
    run_stage(first, here)
    assert run_stage(second, here).found == {"value": 7}
    (tmp_path / "data" / "first.json").unlink()
    other, _ = make("first", 30)
    there = place(tmp_path)
    run_stage(other, there)
    with pytest.raises(ConfigError, match="second.json was measured with another 'of first'.*--again second"):
        run_stage(second, there)


def test_only_keys_of_the_stage_count(tmp_path: Path) -> None:
    stage, _ = make("first", keys=("test",))
    run_stage(stage, place(tmp_path, test=4))
    run_stage(stage, place(tmp_path, test=4, validation=2))
    with pytest.raises(ConfigError, match="another 'test'"):
        run_stage(stage, place(tmp_path, test=5))
    with pytest.raises(ConfigError, match="another 'seed'"):
        run_stage(stage, place(tmp_path, test=4, seed=1))


def test_places_of_files_do_not_count(tmp_path: Path) -> None:
    stage, calls = make("first", keys=("vectors",))
    run_stage(stage, place(tmp_path, vectors="here"))
    run_stage(stage, place(tmp_path, vectors="there"))
    assert calls == [1]


@pytest.mark.parametrize("text", ["", "{", '{"stage": "first"}', "\xff"])
def test_a_damaged_result_is_told(tmp_path: Path, text: str) -> None:
    stage, _ = make("first")
    run_stage(stage, place(tmp_path))
    (tmp_path / "data" / "first.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="delete it to measure again"):
        run_stage(stage, place(tmp_path))


def test_a_result_of_another_kind_is_told(tmp_path: Path) -> None:
    stage, _ = make("first")
    run_stage(stage, place(tmp_path))
    path = tmp_path / "data" / "first.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "found": {"worth": 3}}))
    with pytest.raises(DataError, match="--again first"):
        run_stage(stage, place(tmp_path))


def test_time_of_killed_processes_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, kept = [100.0], tmp_path / "data" / "slow.seconds"
    monkeypatch.setattr(stages.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(stages, "KEPT_EVERY", 0.01)
    killed = True

    def measure(here: Place) -> Number:
        clock[0] += 7
        if killed:
            for _ in range(1000):  # kept while the work goes on: for kill -9
                if kept.is_file() and kept.read_text() == "7.0\n":
                    break
                time.sleep(0.01)
            assert kept.read_text() == "7.0\n"
            clock[0] += 3
            raise KeyboardInterrupt
        return Number(value=1)

    stage = Stage("slow", "slow", Number, measure, lambda *_: Section())
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, place(tmp_path))
    assert kept.read_text() == "10.0\n"
    killed = False
    assert run_stage(stage, place(tmp_path)).seconds == 17.0 and not kept.exists()


def test_what_is_measured_again_takes_with_it_what_was_made_from_it() -> None:
    one, two, three, four = (
        make(name, needs=needs)[0]
        for name, needs in (("one", ()), ("two", ("one",)), ("three", ()), ("four", ("two", "three")))
    )
    assert dependents(["one"], [one, two, three, four]) == ["one", "two", "four"]
    assert dependents(["three"], [one, two, three, four]) == ["three", "four"]
    assert dependents([], [one, two, three, four]) == []


def test_a_digest_tells_results_apart() -> None:
    assert digest(Number(value=1)) == digest(Number(value=1)) != digest(Number(value=2))


def test_a_key_that_a_record_got_later_changes_nothing_until_it_is_set() -> None:
    class Before(Strict):
        value: int

    class After(Before):
        routed: bool = False

    assert digest(After(value=1)) == digest(Before(value=1))
    assert len({digest(After(value=1)), digest(After(value=1, routed=True)), digest(After(value=2))}) == 3
