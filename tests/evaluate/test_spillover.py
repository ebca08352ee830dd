"""What one knob changes in every domain, on a model whose rule is known and on the tiny one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignvec.data.schema import PreferenceRow
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import LevelScores
from alignvec.evaluate.spillover import Turned, _compare, marked, measure_spillover
from alignvec.evaluate.spillover_record import Spillover
from alignvec.evaluate.spillover_report import points, table_of, write_spillover
from alignvec.models import BaseModel
from alignvec.provenance import provenance
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import turn_by
from alignvec.steer.scale import Scale

LEVELS = ("avoidance", "generic", "expert")


def rows(domains: tuple[str, ...] = ("medical", "legal"), count: int = 8) -> list[PreferenceRow]:
    return [
        PreferenceRow(
            id=f"{domain}-{i}", domain=domain, split="test", topic="t", persona=f"{domain} {i // 2}",
            query=f"{domain} {i}?", responses=dict(zip(LEVELS, ("no", "maybe so", "surely yes"), strict=True)),
        )
        for domain in domains
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def knobbed(tiny: BaseModel, make_vector: Any) -> KnobbedModel:
    return KnobbedModel(tiny, [make_vector(d, seed=i, scale=0.4) for i, d in enumerate(("medical", "legal"))])


def test_changes_are_counted_against_the_base_query_by_query(knobbed: KnobbedModel) -> None:
    """The knob turns all medical queries from generic to expert, and a quarter of the legal ones to avoidance."""
    asked = rows()
    base = np.tile([-30.0, -10.0, -30.0], (16, 1))
    sums = base.copy()
    sums[:8, 2] = -5.0
    sums[8:10, 0] = -5.0
    sums[:, 1] = -20.0
    scores = LevelScores(LEVELS, tuple(r.persona for r in asked), sums[None], base, np.full((16, 3), 10.0))
    rates, cells, summary = _compare(knobbed, asked, [Turned("medical", 1.0)], scores, None)
    assert rates["legal"] == {"avoidance": 0.0, "generic": 1.0, "expert": 0.0}
    medical, legal = cells
    assert medical.own and not legal.own and legal.queries == 8
    assert {n: one.value for n, one in medical.preference.change.items()} == pytest.approx(
        {"avoidance": 0.0, "generic": -1.0, "expert": 1.0}
    )
    assert {n: one.value for n, one in legal.preference.change.items()} == pytest.approx(
        {"avoidance": 0.25, "generic": -0.25, "expert": 0.0}
    )
    assert summary.on_target == medical.preference.size and summary.on_target.value == pytest.approx(2 / 3)
    assert summary.spillover.value == legal.preference.size.value == pytest.approx(0.5 / 3)
    assert legal.preference.size.low < 0.5 / 3 < legal.preference.size.high  # one persona of four
    assert medical.perplexity.value == legal.perplexity.value == pytest.approx(np.exp(1.0))


def test_one_persona_of_a_domain_leaves_its_intervals_unknown(knobbed: KnobbedModel) -> None:
    """The legal queries are one persona's; whether they change or not, nothing can be resampled there."""
    asked = [row.model_copy(update={"persona": "only"}) if row.domain == "legal" else row for row in rows()]
    base = np.tile([-30.0, -10.0, -30.0], (16, 1))
    sums = np.stack([base, base])
    sums[0, [0, 8], 2] = -5.0
    scores = LevelScores(LEVELS, tuple(r.persona for r in asked), sums, base, np.full((16, 3), 10.0))
    _, cells, summary = _compare(knobbed, asked, [Turned("medical", 1.0), Turned("medical", 0.5)], scores, None)
    for cell in cells:
        for one in (cell.preference.size, cell.perplexity, *cell.preference.change.values()):
            assert (one.low is None) == (cell.domain == "legal")
    assert points(cells[1].preference.size) == "8" and "[" in points(cells[0].preference.size)
    assert summary.spillover.low is None and summary.on_target.low is not None


def test_levels_of_replies_are_compared_with_the_bases_own(knobbed: KnobbedModel) -> None:
    """Of the settings' verdicts the first are the base's; the second knob turns half of its domain to expert."""
    asked = rows()
    base = np.tile([-30.0, -10.0, -30.0], (16, 1))
    scores = LevelScores(LEVELS, tuple(r.persona for r in asked), np.stack([base, base]), base, np.full((16, 3), 10.0))
    generic, expert = np.eye(3)[1], np.eye(3)[2]
    said = np.tile(generic, (3, 16, 1))
    said[2, 8:12] = expert
    _, cells, summary = _compare(knobbed, asked, [Turned("medical", 1.0), Turned("legal", 1.0)], scores, said)
    found = {(c.knob, c.domain): {n: x.value for n, x in c.level.change.items()} for c in cells if c.level}
    still = {"avoidance": 0.0, "generic": 0.0, "expert": 0.0}
    assert found == {
        ("medical", "medical"): still,
        ("medical", "legal"): still,
        ("legal", "medical"): still,
        ("legal", "legal"): {"avoidance": 0.0, "generic": -0.5, "expert": 0.5},
    }
    assert summary.on_target_level is not None and summary.on_target_level.value == pytest.approx(0.5 / 3)
    unchanged = cells[0].preference.size  # none of 4 personas changed: 60 % of them may, two levels of three each
    assert unchanged.value == 0.0 and unchanged.high == pytest.approx(2 / 3 * (1 - 0.025**0.25))


def test_a_router_keeps_a_knob_out_of_other_domains_exactly(knobbed: KnobbedModel) -> None:
    asked = rows()
    names = ("medical", "legal")
    own = np.array([[float(row.domain == name) for name in names] for row in asked])
    turned = [Turned(name, value) for name in names for value in (-1.0, 1.0)]
    journal = Journal()
    _, plain, _ = measure_spillover(knobbed, asked, turned, journal=journal)
    _, routed, summary = measure_spillover(knobbed, asked, turned, turn=turn_by(names, own), journal=journal)
    assert any(cell.perplexity.value != 1.0 for cell in plain if not cell.own)
    for before, after in zip(plain, routed, strict=True):
        if after.own:
            assert after == before
        else:
            assert after.perplexity.value == 1.0 and after.preference.size.value == 0.0
    assert summary.spillover.value == 0.0


def test_a_result_is_stored_with_its_heat_map(knobbed: KnobbedModel, tmp_path: Path) -> None:
    asked = rows()
    turned = [Turned("medical", 1.0), Turned("legal", -0.5)]
    rates, cells, summary = measure_spillover(knobbed, asked, turned, journal=Journal())
    result = Spillover(
        data="here", routed=False, domains=("medical", "legal"), levels=LEVELS, base_rates=rates, cells=cells,
        summary=summary, judge=None, sampling={}, provenance=provenance(),
    )  # fmt: skip
    write_spillover(result, tmp_path / "out")
    assert Spillover.model_validate_json((tmp_path / "out" / "spillover.json").read_text()) == result
    assert (tmp_path / "out" / "spillover.png").read_bytes()[:4] == b"\x89PNG"
    columns, lines = table_of(result)
    assert columns == ("knob", "medical", "legal") and [line[0] for line in lines] == ["medical=1", "legal=-0.5"]
    assert lines[0][1].startswith("*") and lines[1][2].startswith("*") and not lines[0][2].startswith("*")
    assert json.loads(result.model_dump_json())["summary"]["spillover_level"] is None


def test_a_knob_is_looked_at_where_its_levels_are() -> None:
    assert marked(Scale("m", {"avoidance": -1.5, "generic": 0.0, "expert": 1.0})) == [-1.5, -0.75, 0.5, 1.0]
    assert marked(Scale("m")) == [-1.0, -0.5, 0.5, 1.0]
