"""A small grid on the tiny model, and the arithmetic on made-up rounds."""

from pathlib import Path

import pytest

from alignvec import models
from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError, DataError, KnobError
from alignvec.provenance import provenance
from alignvec.reproduce.cost.inference_cost import Grid, inference_cost
from alignvec.reproduce.cost.inference_plot import plot_inference
from alignvec.reproduce.cost.inference_record import WAYS, InferenceCost, Point, Request
from alignvec.reproduce.cost.inference_report import tables
from alignvec.reproduce.cost.ways import Way
from alignvec.steer.model import KnobbedModel
from tests.conftest import MakeVector

NAMES = ("medical", "legal", "financial")
KNOBS: dict[Way, dict[str, float]] = {"knob": {"medical": 1.0}, "knobs_3": dict.fromkeys(NAMES, 1.0)}
GRID = Grid(system_tokens=(0, 16), batches=(1, 2), rounds=2, new_tokens=3)


class Ticks:
    """A clock that advances by one second each time it is read, or stops."""

    def __init__(self, stop: float = float("inf")) -> None:
        self.now, self.stop = 0.0, stop

    def __call__(self) -> float:
        self.now += 1.0
        if self.now > self.stop:
            raise KeyboardInterrupt
        return self.now


@pytest.fixture
def model(tiny: models.BaseModel, make_vector: MakeVector) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector(name, rank=8, seed=i) for i, name in enumerate(NAMES)])


@pytest.fixture
def short(rows: list[PreferenceRow]) -> list[PreferenceRow]:
    """Rows whose 3-shot prompt fits the tiny model, a token a letter."""
    return [
        row.model_copy(update={"query": f"Sleep {'?' * (1 + i % 3)}", "responses": dict.fromkeys(row.responses, "Yes")})
        for i, row in enumerate(rows)
    ]


def measure(model: KnobbedModel, rows: list[PreferenceRow], **changes: object) -> InferenceCost:
    options: dict[str, object] = {"instruction": "Be expert.", "level": "expert", "grid": GRID, "clock": Ticks()}
    return inference_cost(model, KNOBS, rows[8:12], rows[:3], **(options | changes))  # type: ignore[arg-type]


def test_a_grid_is_measured_whole_with_exact_tokens(model: KnobbedModel, short: list[PreferenceRow]) -> None:
    result = measure(model, short)
    assert [(p.batch, p.cached, p.system_tokens) for p in result.points] == [
        (b, c, s) for b in (1, 2) for c in (False, True) for s in (0, 16)
    ]
    same, compared = result.equal
    assert same == compared == 4 * 2 * (1 + 2)  # ways, system prompts, rows
    for point in result.points:
        assert len(point.rounds) == 2 and all(set(one) == set(WAYS) for one in point.rounds)
        for one in point.rounds:
            for way, request in one.items():
                reused = point.prefix_tokens[way] * point.batch if point.cached else 0
                assert request.reused_tokens == reused and (request.first, request.later) == (1.0, 1.0)
            assert one["knob"].prompt_tokens == one["knobs_3"].prompt_tokens
        assert point.prefix_tokens["knob"] < point.prefix_tokens["zero_shot"] < point.prefix_tokens["three_shot"]
    plain, long = (p for p in result.points if p.batch == 1 and not p.cached)
    # byte-level tokens: markers, role and line breaks of the template, then the query
    turn = len("xuser\n") + 1 + 1
    query = plain.rounds[0]["knob"].prompt_tokens - turn - len("xassistant\n")
    assert query in {len("Sleep ?"), len("Sleep ??"), len("Sleep ???")}
    extra = len("xsystem\nBe expert.x\n")
    assert plain.rounds[0]["zero_shot"].prompt_tokens - plain.rounds[0]["knob"].prompt_tokens == extra
    assert long.prefix_tokens["knob"] - plain.prefix_tokens["knob"] == len("xsystem\nx\n") + 16
    assert [p.rounds[0]["knob"].prompt_tokens for p in measure(model, short).points] == [
        p.rounds[0]["knob"].prompt_tokens for p in result.points
    ]


@pytest.mark.parametrize(("stop", "warm_ups"), [(50, 0), (30, 1)])
def test_a_killed_run_goes_on_round_by_round(
    model: KnobbedModel, short: list[PreferenceRow], tmp_path: Path, stop: int, warm_ups: int
) -> None:
    """Killed at 50 s in a check, which warms up; at 30 s after one, so that what is left needs a round more."""
    journal = tmp_path / "journal.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure(model, short, journal=journal, clock=Ticks(stop=stop))
    begun = journal.read_text()
    clock = Ticks()
    result = measure(model, short, journal=journal, clock=clock)
    assert journal.read_text().startswith(begun) and len(result.points) == 8
    # a check answers 8 times, a round 4 times, each with three looks at the clock
    missing_rounds = 16 - begun.count('first":') // 4
    missing_checks = 8 - begun.count("equal_rows")
    assert clock.now == 3 * (4 * (missing_rounds + warm_ups) + 8 * missing_checks)
    again = Ticks()
    assert measure(model, short, journal=journal, clock=again).points == result.points and again.now == 0
    with pytest.raises(DataError, match="another --out"):
        measure(model, short, journal=journal, instruction="Be brief.")


def test_what_cannot_be_measured_is_refused(model: KnobbedModel, short: list[PreferenceRow]) -> None:
    for grid in (Grid(rounds=0), Grid(new_tokens=1), Grid(batches=()), Grid(system_tokens=(4, 4)), Grid(batches=(0,))):
        with pytest.raises(ConfigError, match="give different values"):
            measure(model, short, grid=grid)
    with pytest.raises(DataError, match="do not fit the model's context"):
        measure(model, short, grid=Grid(system_tokens=(600,), batches=(1,), rounds=1))
    rows, shots = short[8:12], short[:3]
    with pytest.raises(KnobError, match="needs 1 knobs that are not 0"):
        inference_cost(model, KNOBS | {"knob": {"medical": 0.0}}, rows, shots, instruction="x", level="expert")
    with pytest.raises(KnobError, match="nosuch"):
        inference_cost(model, KNOBS | {"knob": {"nosuch": 1.0}}, rows, shots, instruction="x", level="expert")
    with pytest.raises(DataError, match="no queries"):
        inference_cost(model, KNOBS, [], shots, instruction="x", level="expert")


def test_a_knob_that_changes_nothing_is_refused(
    tiny: models.BaseModel, make_vector: MakeVector, short: list[PreferenceRow]
) -> None:
    empty = KnobbedModel(tiny, [make_vector(name, scale=0.0) for name in NAMES])
    with pytest.raises(KnobError, match="change nothing"):
        measure(empty, short)


def made(points: int = 2) -> InferenceCost:
    """Two points of two rounds: the knob takes 1 and 2 s to its first token, 3-shot 4 and 4, then 10 s for 5 tokens."""

    def request(tokens: int, first: float, reused: int = 0) -> Request:
        return Request(prompt_tokens=tokens, reused_tokens=reused, first=first, later=10.0)

    def one(system: int, knob: float) -> dict[Way, Request]:
        rest = request(2 * (60 + system), 2.0, 40)
        return {
            "knob": request(2 * (20 + system), knob, 20), "knobs_3": rest, "zero_shot": rest,
            "three_shot": request(2 * (100 + system), 4.0),
        }  # fmt: skip

    found = tuple(
        Point(
            system_tokens=system, batch=2, cached=True, rounds=(one(system, 1.0 + i), one(system, 2.0 + i)),
            equal_rows=dict.fromkeys(WAYS, 2 - i), prefix_tokens=dict.fromkeys(WAYS, 8),
            prefix_bytes=dict.fromkeys(WAYS, 2**20),
        )
        for i, system in enumerate((0, 80)[:points])
    )  # fmt: skip
    return InferenceCost(
        model="tiny", knobs={}, domain="medical", level="expert", new_tokens=6, dtype="float32", threads=1, seed=0,
        points=found, provenance=provenance(),
    )  # fmt: skip


def test_costs_and_shares_are_those_worked_out_by_hand() -> None:
    result = made()
    point = result.points[0]
    assert result.spread(point, "knob", "prompt").median == 20
    assert result.spread(point, "knob", "computed").median == 10
    first = result.spread(point, "knob", "first_token")
    assert (first.median, first.least, first.most) == (1.5, 1.0, 2.0)
    assert result.spread(point, "knob", "per_token").median == 2.0
    assert result.spread(point, "knob", "seconds").most == 12.0
    share = result.share(point, "three_shot", "first_token")
    assert (share.median, share.least, share.most) == (0.375, 0.25, 0.5)
    assert result.share(point, "three_shot", "prompt").median == pytest.approx(0.2)
    assert result.half_up_to(2, True, "three_shot", "first_token") == 0  # 2.5 / 4 at 80
    assert result.half_up_to(2, True, "three_shot", "prompt") == 0  # 100 / 180 at 80
    assert result.half_up_to(2, True, "zero_shot", "first_token") is None
    assert result.equal == (12, 16)


def test_tables_fit_a_terminal_and_the_picture_is_drawn(tmp_path: Path) -> None:
    result = made()
    found = tables(result)
    for table in found:
        widths = [max(len(row[i]) for row in (table.columns, *table.rows)) for i in range(len(table.columns))]
        assert sum(widths) + 2 * (len(widths) - 1) <= 80 and len(table.title) <= 80, table.title
    assert found[1].rows[2] == ("0", "3-shot", "0.10", "0.38 [0.25,0.50]", "1.00", "0.82 [0.79,0.86]")
    assert found[2].rows[1] == ("2", "on", "3-shot", "0", "0", "never", "never")
    assert "12 of 16" in found[3].title
    plot_inference(result, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")
