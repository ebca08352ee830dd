"""Figures of methods whose replies are known, and one run of all methods on the tiny model."""

from pathlib import Path

import pytest

from alignvec.data.capability import Question
from alignvec.errors import ConfigError
from alignvec.evaluate.journal import Journal
from alignvec.models import BaseModel
from alignvec.reproduce.methods.asking import methods_scope
from alignvec.reproduce.methods.base import Base
from alignvec.reproduce.methods.compare_methods import compare_methods, latin_goals, single_goals
from alignvec.reproduce.methods.method import Goal
from alignvec.reproduce.methods.method_speed import measure_speeds
from alignvec.reproduce.methods.methods_plot import plot_methods
from alignvec.reproduce.methods.methods_result import Comparison, tables
from alignvec.steer.sampling import GREEDY, Sampling
from tests.conftest import MakeVector
from tests.reproduce.methods.all_methods import every_method, some_rows
from tests.reproduce.methods.scripted_method import DOMAINS, LEVELS, ScriptedJudge, ScriptedMethod, scripted_rows

STRENGTHS = {domain: {"avoidance": -1.0, "generic": 0.0, "expert": 1.0} for domain in DOMAINS}
SHORT = GREEDY.model_copy(update={"max_new_tokens": 4})
QUESTIONS = [
    Question(id=f"q{i}", split="test", topic="t", question="Which?", choices=("one", "two", "six", "ten"), answer=right)
    for i, right in enumerate("AAB")
]


def test_goals_ask_each_level_of_each_domain_once() -> None:
    assert latin_goals(DOMAINS, LEVELS) == [
        {"medical": "expert", "legal": "avoidance", "financial": "generic"},
        {"medical": "avoidance", "legal": "generic", "financial": "expert"},
        {"medical": "generic", "legal": "expert", "financial": "avoidance"},
    ]
    assert single_goals(("medical",), LEVELS) == [{"medical": "expert"}, {"medical": "avoidance"}]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base says something that the judge reads as generic."""
    monkeypatch.setattr(Base, "reply", lambda _, queries, *__: ["that depends on much"] * len(queries))


@pytest.mark.usefixtures("plain")
def test_rates_spillover_and_answers_are_counted(tiny: BaseModel) -> None:
    """Expert always works, avoidance never; the spilling twin says a lone domain's level in every domain."""
    works = {"avoidance": (), "generic": (0.0,), "expert": (1.0,)}
    methods = [ScriptedMethod(tiny, STRENGTHS, works, spills) for spills in (False, True)]
    rows = scripted_rows()
    result = compare_methods(
        methods, rows, ScriptedJudge(), data="made up", questions=QUESTIONS, sampling=SHORT, journal=Journal()
    )
    clean, spilling = result.methods
    assert len(clean.cells) == 9 and {(c.domain, c.wanted) for c in clean.cells} == {
        (domain, level) for domain in DOMAINS for level in LEVELS
    }
    for cell in clean.cells:
        said = "generic" if cell.wanted == "avoidance" else cell.wanted
        assert {level: rate.value for level, rate in cell.rates.items()} == {v: float(v == said) for v in LEVELS}
        assert cell.reached == (cell.wanted != "avoidance") and cell.queries == 4
    assert clean.level_rate.value == pytest.approx(2 / 3) and clean.reached == pytest.approx(2 / 3)
    assert clean.degenerate.value == 0.0 and clean.degenerate.high == pytest.approx(1 - 0.025 ** (1 / 6))  # personas
    assert (
        clean.spillover is not None
        and clean.spillover.value == 0.0
        and clean.spillover.high == pytest.approx(2 / 3 * (1 - 0.025 ** (1 / 6)))
    )
    # lone expert: in both other domains all replies go from generic to expert, 2/3 on average over the levels
    assert len(spilling.spilled) == 12 and spilling.spillover is not None
    assert [s.shift.size.value for s in spilling.spilled if "expert" in s.goal] == [pytest.approx(2 / 3)] * 6
    assert spilling.spillover.value == pytest.approx(1 / 3)
    assert clean.answers is not None and clean.answers.value.value == pytest.approx(2 / 3)
    assert clean.card.train_seconds == 7.0 and clean.speed == ()
    found = {table.title.split(",")[0].split(":")[0]: table for table in tables(result)}
    assert found["rate of the wanted level"].rows[0][2] == "6/9"
    assert found["medical"].rows[0][1].startswith("0.00 [") and found["medical"].rows[0][3].endswith("*")


@pytest.mark.usefixtures("plain")
def test_loops_in_other_domains_are_spillover(tiny: BaseModel) -> None:
    """The lone expert makes the others loop: all their generic replies are lost, a third on average over the levels."""
    method = ScriptedMethod(tiny, STRENGTHS, {"avoidance": (), "generic": (0.0,), "expert": (1.0,)}, spills=True)
    method.loops = "expert"
    result = compare_methods(
        [method, Base(tiny)], scripted_rows(), ScriptedJudge(), data="made up", sampling=SHORT, journal=Journal()
    )
    looping, base = result.methods
    assert [s.shift.size.value for s in looping.spilled if "expert" in s.goal] == [pytest.approx(1 / 3)] * 6
    assert base.spillover is not None and (base.spillover.value, base.spillover.high) == (0.0, 0.0)


def test_a_reply_that_loops_is_of_no_level(tiny: BaseModel) -> None:
    works = {"avoidance": (-1.0,), "generic": (0.0,), "expert": (1.0,)}
    method = ScriptedMethod(tiny, STRENGTHS, works)
    method.loops = "expert"
    result = compare_methods(
        [method], scripted_rows(), ScriptedJudge(), data="made up", sampling=SHORT, journal=Journal()
    ).methods[0]
    assert result.level_rate.value == pytest.approx(2 / 3) and result.degenerate.value == pytest.approx(1 / 3)
    for cell in result.cells:
        loops = cell.wanted == "expert"
        assert cell.reached == (not loops) and cell.degenerate.value == loops
        assert sum(rate.value for rate in cell.rates.values()) == (not loops)


def test_all_methods_are_compared_and_a_killed_run_goes_on(
    tiny: BaseModel, make_vector: MakeVector, tmp_path: Path
) -> None:
    domains = ("medical", "legal")
    rows = some_rows(("test",) * 4)
    goals = [{"medical": "expert", "legal": "avoidance"}]
    scope = methods_scope(tiny, SHORT, "made up", [*rows, *QUESTIONS])

    class Killed(Exception):
        pass

    def run(kill: int | None) -> tuple[Comparison, int]:
        calls: list[int] = []

        def advance(task: str, n: int, total: int) -> None:
            calls.append(n)
            if kill is not None and len(calls) > kill:
                raise Killed

        found = compare_methods(
            every_method(tiny, make_vector), rows, ScriptedJudge(), data="made up", goals=goals, questions=QUESTIONS,
            sampling=SHORT, speed_rounds=1, journal=Journal(tmp_path / "journal.jsonl", scope), batch_size=4,
            advance=advance,
        )  # fmt: skip
        return found, len(calls)

    with pytest.raises(Killed):
        run(12)
    lines = len((tmp_path / "journal.jsonl").read_text().splitlines())
    assert lines > 8
    result, _ = run(None)
    again, _ = run(None)
    same = {"provenance", "methods"}
    assert again.model_dump(exclude=same) == result.model_dump(exclude=same)
    for one, two in zip(result.methods, again.methods, strict=True):  # steering's directions are found, and timed, anew
        drop = {"card": {"train_seconds"}}
        assert one.model_dump(exclude=drop) == two.model_dump(exclude=drop)
    by_name = {one.card.name: one for one in result.methods}
    assert by_name["base"].spillover is not None and by_name["base"].spillover.value == 0.0
    assert by_name["base"].answers is not None and by_name["base"].answers.change.value == 0.0
    assert len(by_name["joint"].spilled) == 2 and len(by_name["hinged"].spilled) == 4  # joint has two of the four goals
    assert all(len(one.speed) == 2 and one.speed[0].tokens_per_second.least > 0 for one in result.methods)
    assert domains == result.domains
    assert Comparison.model_validate_json(result.model_dump_json()) == result
    plot_methods(result, tmp_path / "out" / "methods.png")
    assert (tmp_path / "out" / "methods.png").read_bytes()[:4] == b"\x89PNG"
    for table in tables(result):
        widths = [max(len(line[i]) for line in (table.columns, *table.rows)) for i in range(len(table.columns))]
        assert sum(widths) + 2 * (len(widths) - 1) <= 80, table.title


def test_what_cannot_be_compared_is_refused(tiny: BaseModel) -> None:
    other = BaseModel(tiny.name, tiny.folder, tiny.model, tiny.tokenizer)
    for methods, message in (([Base(tiny)] * 2, "different names"), ([], "different names")):
        with pytest.raises(ConfigError, match=message):
            compare_methods(methods, scripted_rows(), ScriptedJudge(), data="d", journal=Journal())
    methods = [Base(tiny), ScriptedMethod(other, STRENGTHS, {})]
    with pytest.raises(ConfigError, match="different base models"):
        compare_methods(methods, scripted_rows(), ScriptedJudge(), data="d", journal=Journal())


class Named(Base):
    def __init__(self, name: str, base: BaseModel) -> None:
        super().__init__(base)
        self.name = name


def test_timed_replies_have_all_their_tokens(tiny: BaseModel) -> None:
    ends: list[bool] = []

    class Watched(Named):
        def reply(self, queries: list[str], goals: list[Goal], sampling: Sampling) -> list[str]:
            chats = [[{"role": "user", "content": query}] for query in queries]
            ends.extend(one.ended for one in self.model.continuations(chats, {}, sampling))
            return [""] * len(queries)

    tiny.model.lm_head.weight.data[tiny.tokenizer.eos_token_id] *= 50  # the end is near, or very far
    method = Watched("watched", tiny)
    kept = tiny.model.generation_config.eos_token_id
    speed = measure_speeds([method], ["why?", "how?"], {}, batch=2, new_tokens=8, rounds=2)["watched"]
    assert not any(ends) and len(ends) == 3 * 2 * 2 and speed.batch == 2
    assert tiny.model.generation_config.eos_token_id == kept and speed.peak_bytes is None


def test_speeds_are_medians_over_rounds_that_all_methods_share(tiny: BaseModel) -> None:
    """A first token takes slow 4 s, quick 1 s, and each further one half and a quarter of a second; the third counted
    round takes ten times as long, the round that warms up a hundred times."""
    now, order = [0.0], []

    class Timed(Named):
        def reply(self, queries: list[str], goals: list[Goal], sampling: Sampling) -> list[str]:
            turn = sum(name == self.name for name, _ in order) // 2
            order.append((self.name, queries[0]))
            first, later = (4.0, 0.5) if self.name == "slow" else (1.0, 0.25)
            now[0] += (first + later * (sampling.max_new_tokens - 1)) * {0: 100, 3: 10}.get(turn, 1)
            return [""] * len(queries)

    methods = [Timed("slow", tiny), Timed("quick", tiny)]
    told: list[tuple[int, int]] = []
    found = measure_speeds(
        methods, ["a", "b", "c"], {}, batch=2, new_tokens=5, rounds=3, clock=lambda: now[0],
        advance=lambda n, total: told.append((n, total)),
    )  # fmt: skip
    slow, quick = found["slow"], found["quick"]
    assert (slow.first_token.least, slow.first_token.median, slow.first_token.most) == (4.0, 4.0, 40.0)
    assert (quick.first_token.median, quick.first_token.most) == (1.0, 10.0)
    assert slow.tokens_per_second.median == 2 * 4 / (4 * 0.5) and slow.tokens_per_second.least == 0.4
    assert quick.tokens_per_second.median == 2 * 4 / (4 * 0.25)
    assert [name for name, _ in order] == ["slow", "slow", "quick", "quick"] * 4
    assert [query for name, query in order if name == "slow"][::2] == ["a", "c", "b", "a"]
    assert told == [(1, 8)] * 8
