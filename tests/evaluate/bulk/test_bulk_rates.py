"""Level rates counted shard by shard are those of all replies at once."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alignvec.errors import DataError, StorageError
from alignvec.evaluate.bulk import rates
from alignvec.evaluate.bulk.plan import AnsweredBy, Plan, PromptsUsed, keep_plan
from alignvec.evaluate.bulk.rates import bulk_rates
from alignvec.evaluate.bulk.rates_report import tables, write_rates
from alignvec.evaluate.bulk.shards import Generated, shard_path, write_shard
from alignvec.evaluate.judge import JudgeReport
from alignvec.evaluate.statistics import bootstrap_rate
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval

LEVELS = ("low", "high")
EXACT = Interval(value=1.0, low=1.0, high=1.0)
REPORT = JudgeReport(trained_on=1, held_out=1, accuracy=EXACT, length_accuracy=EXACT, confusion={})


@dataclass(frozen=True)
class ByFirstWord:
    """Judges a reply by its first word."""

    levels: tuple[str, ...] = LEVELS
    report: JudgeReport = REPORT

    def verdicts(self, replies: Sequence[str]) -> list[str]:
        return [(reply.split() or ["low"])[0] for reply in replies]


def planned(count: int, settings: tuple[dict[str, float], ...], **of: Any) -> Plan:
    return Plan(
        prompts=PromptsUsed(file="p.jsonl", split=None, count=count, digest="d"),
        settings=settings,
        answered_by=AnsweredBy(engine="openai", model="m", **of),
        sampling=Sampling(),
        shard_size=7,
    )


def written(
    out: Path,
    settings: tuple[dict[str, float], ...],
    *,
    count: int = 40,
    drop: tuple[int, int] | None = None,
    **of: Any,
) -> list[Generated]:
    """A run of random replies to prompts of two domains; returns them all."""
    plan, draw = planned(count, settings, **of), random.Random(4)
    keep_plan(out, plan)
    everything = []
    for block in range(-(-count // 7)):
        for number, knobs in enumerate(settings):
            if drop == (block, number):
                continue
            shard = [
                Generated(
                    id=f"q{i}",
                    domain="legal" if i % 3 else "medical",
                    persona=None if i % 5 == 0 else f"persona {i // 4}",
                    query="why?",
                    knobs=knobs,
                    reply=draw.choice(["low is what it is", "high as it may be", "high high high high", " "]),
                    ended=draw.random() < 0.8,
                    tokens=draw.randrange(9),
                )
                for i in range(7 * block, min(7 * block + 7, count))
            ]
            write_shard(shard_path(out, block, number), shard)
            everything += shard
    return everything


TWO: tuple[dict[str, float], ...] = ({"medical": -1.0}, {"medical": 1.0})


def test_rates_and_intervals_are_those_of_all_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "JUDGED_AT_ONCE", 3)
    replies = written(tmp_path, TWO)
    result = bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
    assert (result.replies, result.missing, len(result.rates)) == (80, 0, 4)
    for one in result.rates:
        mine = [r for r in replies if (r.domain, r.knobs) == (one.domain, one.knobs)]
        who = [f"prompt {r.id}" if r.persona is None else f"persona {r.persona}" for r in mine]
        assert one.replies == len(mine)
        for level in LEVELS:
            expected = bootstrap_rate([float(r.reply.startswith(level)) for r in mine], who)
            assert one.rate[level].told(".6f") == expected.told(".6f")
        assert one.degenerate.value == pytest.approx(
            sum(r.reply in (" ", "high high high high") for r in mine) / len(mine)
        )
        assert one.cut.value == pytest.approx(sum(not r.ended for r in mine) / len(mine))
        assert one.tokens == pytest.approx(sum(r.tokens for r in mine) / len(mine))
        first = {r.id: r.reply for r in replies if r.knobs == TWO[0]}
        assert one.same == pytest.approx(sum(first[r.id] == r.reply for r in mine) / len(mine))


def test_what_is_missing_is_counted_and_not_guessed(tmp_path: Path) -> None:
    written(tmp_path, TWO, drop=(0, 1))
    result = bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
    assert (result.replies, result.missing) == (73, 7)
    legal, medical = tables(result)
    assert legal.title == "legal: level of 22 to 26 replies at each setting, % by the judge"
    assert medical.title == "medical: level of 11 to 14 replies at each setting, % by the judge"


def test_replies_that_never_change_are_told(tmp_path: Path) -> None:
    written(tmp_path, TWO, count=7)
    shard_path(tmp_path, 0, 1).write_text(shard_path(tmp_path, 0, 0).read_text())
    (note,) = bulk_rates(tmp_path, ByFirstWord()).notes  # type: ignore[arg-type]
    assert "seems to ignore the knobs" in note


def test_settings_without_replies_are_not_taken_for_alike(tmp_path: Path) -> None:
    three: tuple[dict[str, float], ...] = (*TWO, {"medical": 0.5})
    written(tmp_path, three, count=7)
    shard_path(tmp_path, 0, 1).write_text(shard_path(tmp_path, 0, 0).read_text())
    shard_path(tmp_path, 0, 2).unlink()
    assert bulk_rates(tmp_path, ByFirstWord()).notes == ()  # type: ignore[arg-type]
    shard_path(tmp_path, 0, 1).unlink()
    assert bulk_rates(tmp_path, ByFirstWord()).notes == ()  # type: ignore[arg-type]


def test_a_router_is_told(tmp_path: Path) -> None:
    written(tmp_path, TWO, routed=True)
    (note,) = bulk_rates(tmp_path, ByFirstWord()).notes  # type: ignore[arg-type]
    assert "a router decided what was applied" in note


def test_a_picture_that_cannot_be_drawn_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def broken(_: Figure, to: Any, **__: Any) -> None:
        if isinstance(to, Path):
            to.write_bytes(b"half")
        else:
            to.write(b"half")
        raise OSError(28, "No space left on device")

    written(tmp_path, TWO)
    result = bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
    write_rates(result, tmp_path)
    whole = (tmp_path / "rates.png").read_bytes()
    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(StorageError):
        write_rates(result, tmp_path)
    assert (tmp_path / "rates.png").read_bytes() == whole


def test_knobs_in_a_name_are_told_to_be_unproven(tmp_path: Path) -> None:
    written(tmp_path, TWO, named="{model}:{knobs}")
    (note,) = bulk_rates(tmp_path, ByFirstWord()).notes  # type: ignore[arg-type]
    assert "nothing proves" in note


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(TWO, id="one knob"),
        pytest.param(({}, {"medical": 0.5, "legal": -0.3, "financial": 0.7}), id="several"),
    ],
)
def test_tables_fit_a_terminal_and_the_picture_is_written(tmp_path: Path, settings: Any) -> None:
    written(tmp_path, settings)
    result = bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
    for table in tables(result)[len(settings[1]) > 1 :]:
        widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
        assert sum(widths) + 2 * len(widths) <= 80
    write_rates(result, tmp_path)
    assert rates.BulkRates.model_validate_json((tmp_path / "rates.json").read_bytes()) == result
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_replies_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run.json in"):
        bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
    keep_plan(tmp_path, planned(4, TWO))
    with pytest.raises(DataError, match="no replies in"):
        bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
    path = shard_path(tmp_path, 0, 0)
    path.parent.mkdir()
    path.write_text('{"id": "q0"}\n')
    with pytest.raises(DataError, match=r"00000-00.jsonl:1: "):
        bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(DataError, match="is no manifest"):
        bulk_rates(tmp_path, ByFirstWord())  # type: ignore[arg-type]
