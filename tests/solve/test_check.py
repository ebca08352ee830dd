"""Settings on held-out queries: what is generated is what counts, routed or not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import ConfigError, DataError
from alignvec.evaluate.judge import JudgeReport
from alignvec.models import BaseModel
from alignvec.provenance import provenance
from alignvec.solve.check import Check, CheckedGoal, check_settings, write_check
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import Router, RouterCard, acting
from alignvec.steer.sampling import GREEDY
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.strict import Interval
from tests.conftest import MakeVector, preference_record

SHORT = GREEDY.model_copy(update={"max_new_tokens": 5})
ROWS = [
    PreferenceRow.model_validate(preference_record(number, "test", domain))
    for domain in ("medical", "legal")
    for number in (1, 2, 5)
]
GOALS: dict[str, dict[str, float]] = {
    "medical=expert,legal=avoidance": {"medical": 1.0, "legal": -1.0},
    "legal=generic": {"legal": 0.5},
    "medical=generic": {},
}


def level(reply: str) -> str:
    return LEVELS[sum(reply.encode()) % 3]


class Sums:
    """A judge that any reply has a level for."""

    levels = LEVELS

    def verdicts(self, replies: Sequence[str]) -> list[str]:
        return [level(reply) for reply in replies]


@pytest.fixture
def model(tiny: BaseModel, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector(name, seed=i, scale=0.3) for i, name in enumerate(("medical", "legal"))])


def check(model: KnobbedModel, goals: dict[str, dict[str, float]], **options: Any) -> tuple[list[CheckedGoal], int]:
    given: dict[str, Any] = {"constraints": {}, "data": "held out", **options}
    return check_settings(model, ROWS, goals, given.pop("constraints"), Sums(), SHORT, **given)  # type: ignore[arg-type]


def test_rates_are_those_of_the_replies_at_each_setting(model: KnobbedModel) -> None:
    done: list[tuple[str, int, int]] = []
    checked, replies = check(model, GOALS, advance=lambda *told: done.append(told))
    assert replies == 18 and {(name, total) for name, _, total in done} == {("generating", 18)}
    assert sum(count for _, count, _ in done) == 18
    assert [(one.goal, one.knobs) for one in checked] == [
        ({"medical": "expert", "legal": "avoidance"}, {"medical": 1.0, "legal": -1.0}),
        ({"legal": "generic"}, {"legal": 0.5}),
        ({"medical": "generic"}, {}),
    ]
    for one in checked:
        said = [level(reply) for reply in model.generate([row.query for row in ROWS], one.knobs, SHORT)]
        rates = {d: {v: said[i : i + 3].count(v) / 3 for v in LEVELS} for d, i in (("medical", 0), ("legal", 3))}
        assert {d: {v: found.value for v, found in row.items()} for d, row in one.measured.items()} == rates
        for threshold, verdict in one.reached.items():
            highest = all(rates[d][v] == max(rates[d].values()) for d, v in one.goal.items())
            alone = all(list(rates[d].values()).count(rates[d][v]) == 1 for d, v in one.goal.items())
            enough = all(rates[d][v] >= float(threshold) for d, v in one.goal.items())
            assert verdict == (highest and alone and enough)
    assert list(checked[0].reached) == ["0.5", "0.6", "0.7"]


def test_a_router_turns_the_knobs_of_each_query_and_alike_replies_are_counted_once(
    model: KnobbedModel, tmp_path: Path
) -> None:
    weight = np.random.default_rng(0).normal(size=(2, 32))
    card = RouterCard(base=fingerprint(model.base.folder), domains=("legal", "medical"), layers=(1,), ramp=(0.3, 0.7))
    router = Router(card, weight, np.zeros(2))
    shares = acting(router.probabilities(model.base, [row.query for row in ROWS]), card.ramp)
    goals = {"medical=expert": {"medical": 1.0, "legal": -1.0}}
    (found,), replies = check(model, goals, router=router, out=tmp_path)
    rows = [
        {n: v for n, v in {"medical": round(medical, 3), "legal": round(-legal, 3)}.items() if v}
        for legal, medical in shares.tolist()
    ]
    said = [level(reply) for reply in model.generate([row.query for row in ROWS], rows, SHORT)]
    measured = [found.measured[domain][v].value for domain in ("medical", "legal") for v in LEVELS]
    assert measured == [said[i : i + 3].count(v) / 3 for i in (0, 3) for v in LEVELS]
    assert replies == 6 and (tmp_path / "journal.jsonl").is_file()
    off = Router(card.model_copy(update={"ramp": (0.999998, 0.999999)}), weight, np.full(2, -9.0))  # no knob acts
    assert check(model, {**goals, "legal=generic": {"legal": 1.0}}, router=off)[1] == len(ROWS)
    assert check(model, {"medical=generic": {}}, router=router)[1] == len(ROWS)


def test_a_killed_check_goes_on_from_its_journal_which_belongs_to_these_settings_and_queries(
    model: KnobbedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check(model, GOALS, out=tmp_path)
    monkeypatch.delattr(KnobbedModel, "generate")
    assert check(model, GOALS, out=tmp_path) == first
    with pytest.raises(DataError, match="holds results of other vectors, data or settings"):
        check(model, GOALS, out=tmp_path, data="other queries")


def test_bounds_on_rates_count_and_those_on_perplexity_are_told_to_be_unchecked(model: KnobbedModel) -> None:
    (plain,), _ = check(model, {"medical=generic": {}})
    rates = {v: found.value for v, found in plain.measured["medical"].items()}
    top, *_, other = sorted(rates, key=lambda v: -rates[v])
    wanted: dict[str, dict[str, float]] = {f"medical={top}": {}}
    bounds = [], [f"medical={top}>={rates[top] - 0.01:.2f}"], [f"medical={other}>=1", "perplexity<=1.1"]
    free, kept, broken = (check(model, wanted, constraints={f"medical={top}": one})[0][0] for one in bounds)
    assert kept.reached == free.reached and free.reached["0.5"] == (rates[top] >= 0.5)
    assert free.unchecked == kept.unchecked == [] and broken.unchecked == ["perplexity<=1.1"]
    assert not any(broken.reached.values())


def test_goals_and_knobs_that_are_not_there_are_refused(model: KnobbedModel) -> None:
    with pytest.raises(ConfigError, match="no domain 'tax'"):
        check(model, {"tax=expert": {}})
    with pytest.raises(ConfigError, match=r"the settings turn 'calm', which is not loaded \(have: medical, legal\)"):
        check(model, {"medical=expert": {"tone": 1.0, "calm": 1.0, "medical": 1.0}})


def test_a_check_is_told_in_a_line_and_written_with_a_picture(model: KnobbedModel, tmp_path: Path) -> None:
    checked, replies = check(model, GOALS)
    half = Interval(value=0.5, low=0.4, high=0.6)
    made = Check(
        data="medical test", routed=False, solved_routed=None, replies=replies, goals=tuple(checked), sampling={},
        judge=JudgeReport(trained_on=1, held_out=1, accuracy=half, length_accuracy=half, confusion={}),
        provenance=provenance(),
    )  # fmt: skip
    write_check(made, tmp_path)
    assert Check.model_validate_json((tmp_path / "check.json").read_bytes()) == made
    assert (tmp_path / "goals.png").read_bytes().startswith(b"\x89PNG")
    counts = [sum(one.reached[threshold] for one in checked) for threshold in ("0.5", "0.6", "0.7")]
    wanted = f"reached of 3 goals: {counts[0]} at 0.5, {counts[1]} at 0.6, {counts[2]} at 0.7"
    assert made.summary().startswith(wanted) and "medical test" in made.summary()
