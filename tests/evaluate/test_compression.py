"""What a form costs, from hand-made scores; the run over forms on the tiny model; and the picture."""

import json
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from alignvec import models
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError, StorageError
from alignvec.evaluate.compression import (
    Behaviour,
    CompressionReport,
    FormResult,
    _points,
    behaviours,
    compress_forms,
    ends,
    form_result,
    plot_forms,
)
from alignvec.evaluate.journal import Journal
from alignvec.evaluate.preference import LevelScores
from alignvec.provenance import Provenance
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.compress import compress, parse_form
from alignvec.vectors.store import load_vector, save_vector
from alignvec.vectors.strict import Interval
from tests.conftest import MakeVector

PERSONAS = ("p", "q", "r", "s")
BASE = np.full((4, 3), -10.0)
COUNTS = np.full((4, 3), 5.0)


def scores(*settings: list[list[float]]) -> LevelScores:
    """Scores of four queries whose sums are the base's plus the given implicit reward a token."""
    return LevelScores(LEVELS, PERSONAS, np.array([BASE + COUNTS * np.array(s) for s in settings]), BASE, COUNTS)


# at λ = 1 "expert" wins 3 of 4 before and 2 of 4 after; at λ = -1 "avoidance" wins all before and 2 of 4 after
UP = [[0.0, 0.1, 0.4], [0.0, 0.1, 0.4], [0.0, 0.1, 0.4], [0.5, 0.1, 0.4]]
UP_AFTER = [[0.0, 0.1, 0.2], [0.3, 0.1, 0.2], [0.0, 0.3, 0.2], [0.1, 0.1, 0.5]]
DOWN = [[0.4, 0.1, 0.0]] * 4
DOWN_AFTER = [[0.4, 0.1, 0.0], [0.2, 0.5, 0.0], [0.4, 0.1, 0.0], [0.2, 0.3, 0.4]]


def test_changes_are_in_points_and_margins_as_a_share(make_vector: MakeVector) -> None:
    vector = make_vector()
    up, down = behaviours(vector, scores(UP, DOWN), scores(UP_AFTER, DOWN_AFTER), LEVELS)
    assert (up.coefficient, up.level, up.rate.value) == (1.0, "expert", 0.75)
    assert up.change.value == up.change_implicit.value == pytest.approx(-25.0)  # lost two, won one, of four
    assert (up.change.low, up.change.high) == (-100.0, 50.0)  # percentiles over every draw of -1, -1, 0, 1
    assert up.margin == pytest.approx((0.4 * 3 - 0.1) / 4)
    assert up.margin_kept == pytest.approx((0.2 - 0.1 + 0.2 + 0.4) / 1.1)
    assert (down.coefficient, down.level, down.rate.value) == (-1.0, "avoidance", 1.0)
    assert down.change.value == pytest.approx(-50.0)
    assert down.margin == pytest.approx(-0.4)
    assert down.margin_kept == pytest.approx((0.4 + 0.2 + 0.4 - 0.2) / 1.6)


def test_a_change_by_likelihood_is_told_apart_from_one_by_implicit_reward(make_vector: MakeVector) -> None:
    base = BASE + np.array([0.0, 0.0, -5.0])  # the expert reply is unlikely a token, however it is rewarded
    before, after = (
        LevelScores(LEVELS, PERSONAS, np.array([base + COUNTS * np.array(s)]), base, COUNTS) for s in (UP, UP_AFTER)
    )
    (up,) = behaviours(make_vector(hinged=False), before, after, LEVELS)
    assert up.rate.value == up.change.value == 0.0
    assert up.change_implicit.value == pytest.approx(-25.0)


def test_where_no_query_changes_the_interval_is_that_of_a_rate_of_nought(make_vector: MakeVector) -> None:
    (up,) = behaviours(make_vector(hinged=False), scores(UP), scores(UP), LEVELS)
    exact = 100 * (1 - 0.025**0.25)  # Clopper and Pearson, none of four
    assert (up.change.low, up.change.value, up.change.high) == pytest.approx((-exact, 0.0, exact))
    assert up.margin_kept == pytest.approx(1.0)


def test_a_margin_of_zero_has_no_share_that_is_kept(make_vector: MakeVector) -> None:
    (up,) = behaviours(make_vector(hinged=False), scores([[0.0, 0.1, 0.0]] * 4), scores(UP), LEVELS)
    assert (up.margin, up.margin_kept) == (0.0, None)


def test_the_ends_are_one_and_of_a_hinged_vector_minus_one(make_vector: MakeVector) -> None:
    assert ends(make_vector(), LEVELS) == {1.0: "expert", -1.0: "avoidance"}
    assert ends(make_vector(hinged=False), ("a", "b")) == {1.0: "b"}


def test_a_forms_share_is_of_sixteen_bits_an_entry_of_every_changed_tensor(make_vector: MakeVector) -> None:
    vector = make_vector(rank=4)
    small = compress(vector, parse_form("rank=1"))
    shapes = [tuple(d.shape) for part in vector.parts for d in part.deltas.values()]
    found = form_result(vector, "rank=1", small, [])
    assert found.bytes == sum(2 * (rows + columns) for rows, columns in shapes)
    assert found.share == found.bytes / sum(2 * rows * columns for rows, columns in shapes)
    assert found.weight_error == small.card.error["compression"]
    assert (found.form, found.behaviour) == ("rank=1", [])


def test_a_run_measures_every_form_beside_the_vector_as_it_was(
    tiny: models.BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    save_vector(make_vector(rank=4, scale=0.4), tmp_path / "medical")
    forms = [parse_form("rank=1"), parse_form("dense")]
    report = compress_forms(tmp_path / "medical", forms, tmp_path / "out", base=tiny, rows=rows, data="mine")
    assert CompressionReport.model_validate_json((tmp_path / "out" / "compression.json").read_text()) == report
    assert (report.vector, report.data, report.queries) == ("medical", "mine", 16)
    low, dense = report.forms
    assert [(end.coefficient, end.level) for end in low.behaviour] == [(1.0, "expert"), (-1.0, "avoidance")]
    for form, result in zip(forms, (low, dense), strict=True):
        stored = load_vector(tmp_path / "out" / form.slug)
        assert stored.name == f"medical-{form.slug}"
        assert stored.card.error["compression"] == result.weight_error
        for end in result.behaviour:
            margins = [
                margin(KnobbedModel(tiny, [vector]), rows, end.coefficient)
                for vector in (load_vector(tmp_path / "medical"), stored)
            ]
            assert end.margin == pytest.approx(margins[0], rel=1e-4)
            assert end.margin_kept == pytest.approx(margins[1] / margins[0], rel=1e-3)
    assert abs(low.behaviour[0].margin_kept - 1) > 0.05  # type: ignore[operator]
    assert abs(dense.behaviour[0].margin_kept - 1) < 0.05  # type: ignore[operator]


def margin(model: KnobbedModel, rows: list[PreferenceRow], coefficient: float) -> float:
    """Mean implicit reward a token of expert over avoidance, each reply scored alone."""
    from alignvec.logprobs import encode_replies

    found = []
    for row in rows:
        rewards = []
        for level in ("expert", "avoidance"):
            encoded = encode_replies(model.base.tokenizer, row.query, [row.responses[level]], max_length=512)
            turned, base = (
                model.score([encoded], knobs).item() for knobs in (dict.fromkeys(model.vectors, coefficient), {})
            )
            rewards.append((turned - base) / len(encoded.replies[0]))
        found.append(rewards[0] - rewards[1])
    return float(np.mean(found))


def test_a_killed_run_goes_on_and_other_data_under_the_same_ids_is_refused(
    tiny: models.BaseModel,
    make_vector: MakeVector,
    rows: list[PreferenceRow],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_vector(make_vector(), tmp_path / "medical")
    options: dict[str, Any] = {"base": tiny, "rows": rows[:3], "data": "mine"}
    run = [tmp_path / "medical", [parse_form("rank=1"), parse_form("sign")], tmp_path / "out"]
    whole = compress_forms(*run, **options)
    journal = tmp_path / "out" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:10]) + lines[10][:5])
    added: list[str] = []
    add = Journal.add
    monkeypatch.setattr(Journal, "add", lambda self, key, value: (added.append(key), add(self, key, value))[1])
    again = compress_forms(*run, **options)
    assert again.forms == whole.forms
    assert added == [json.loads(line)[0] for line in lines[10:]]
    changed = [row.model_copy(update={"query": "Something else?"}) for row in rows[:3]]
    with pytest.raises(DataError, match="other vectors, data or settings"):
        compress_forms(*run, **{**options, "rows": changed})


def test_a_place_that_holds_something_else_is_refused_before_any_work(
    tiny: models.BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    save_vector(make_vector(), tmp_path / "medical")
    (tmp_path / "out" / "sign").mkdir(parents=True)
    (tmp_path / "out" / "sign" / "thesis.txt").write_text("mine")
    steps: list[Any] = []
    with pytest.raises(StorageError, match="something else than a vector is there"):
        compress_forms(
            tmp_path / "medical",
            [parse_form("rank=1"), parse_form("sign")],
            tmp_path / "out",
            base=tiny,
            rows=rows,
            advance=lambda *step: steps.append(step),
        )
    assert steps == []
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["sign"]


def test_rows_without_the_same_levels_are_refused(
    tiny: models.BaseModel, make_vector: MakeVector, rows: list[PreferenceRow], tmp_path: Path
) -> None:
    save_vector(make_vector(), tmp_path / "medical")
    responses = {"avoidance": "No.", "expert": "Yes."}
    mixed = [rows[0], rows[1].model_copy(update={"responses": responses})]
    with pytest.raises(DataError, match="every row of a file needs the same levels"):
        compress_forms(tmp_path / "medical", [parse_form("sign")], tmp_path / "out", base=tiny, rows=mixed)
    two = [row.model_copy(update={"responses": responses}) for row in rows[:2]]  # fewer levels than the card names
    report = compress_forms(tmp_path / "medical", [parse_form("sign")], tmp_path / "out", base=tiny, rows=two)
    assert [end.level for end in report.forms[0].behaviour] == ["expert", "avoidance"]


@pytest.mark.parametrize(("shifts", "mean"), [([0.0, 0.0], 0.0), ([1.0, 0.0], 50.0)])
def test_a_change_over_one_persona_has_no_interval(shifts: list[float], mean: float) -> None:
    assert _points(np.array(shifts), ["only", "only"]) == Interval(value=mean, low=None, high=None)


FORMS = ["rank=16", "size=0.0625", "topk=0.03125", "dare=0.96875", "sign", "rank=64", "energy=0.9", "dense"]


def report(*, measured: bool = True, hinged: bool = True, kept: float | None = 0.8) -> CompressionReport:
    """Eight forms, four of them at 1/16."""

    def end(coefficient: float, level: str) -> Behaviour:
        change = Interval(value=-1.0, low=-4.0, high=2.0)
        rate = Interval(value=0.7, low=0.6, high=0.8)
        return Behaviour(
            coefficient=coefficient,
            level=level,
            rate=rate,
            change=change,
            change_implicit=change,
            margin=0.3,
            margin_kept=kept,
        )

    both = [end(1.0, "expert"), end(-1.0, "avoidance")][: 1 + hinged] if measured else []
    shares = [0.03, 0.0624, 0.0626, 0.0625, 0.0627, 0.12, 0.31, 1.0]
    return CompressionReport(
        vector="medical",
        dense_bytes=1000,
        data="mine" if measured else None,
        queries=40 if measured else 0,
        seed=0,
        forms=[
            FormResult(form=form, bytes=int(1000 * share), share=share, weight_error=error, behaviour=both)
            for form, share, error in zip(FORMS, shares, [0.6, 0.5, 0.7, 5.5, 0.6, 0.4, 0.3, 0.0], strict=True)
        ],
        provenance=Provenance(command="test", versions={}, machine="test", commit=None),
    )


def drawn(monkeypatch: pytest.MonkeyPatch, found: CompressionReport) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr("alignvec.evaluate.compression.write_figure", lambda _, figure: figures.append(figure))
    plot_forms(found, Path("not written.png"))
    return figures[0]


def test_every_form_is_in_the_legend_and_has_a_colour_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, report())
    weights = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    by_share = sorted(zip(report().forms, FORMS, strict=True), key=lambda pair: pair[0].share)
    assert [line.get_label() for line in weights] == [name for _, name in by_share]
    assert [line.get_ydata()[0] for line in weights] == [form.weight_error for form, _ in by_share]
    assert len({line.get_color() for line in weights}) == 8
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [name for _, name in by_share]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == [
        "λ = 1 (expert)",
        "λ = -1 (avoidance)",
    ]


def test_intervals_of_forms_of_one_size_stand_side_by_side_in_order_of_size(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, report())
    places = [bar.lines[0].get_xdata()[0] for bar in figure.axes[2].containers]
    assert len(places) == 16
    assert all(later > 1.04 * earlier for earlier, later in pairwise(places))
    bounds = [bar.lines[2][0].get_segments()[0][:, 1].tolist() for bar in figure.axes[2].containers]
    assert bounds == [[-4.0, 2.0]] * 16


@pytest.mark.parametrize(
    ("options", "panels"), [({}, 3), ({"hinged": False}, 3), ({"measured": False}, 1), ({"kept": None}, 3)]
)
def test_a_picture_is_written(options: dict[str, Any], panels: int, tmp_path: Path) -> None:
    plot_forms(report(**options), tmp_path / "new" / "forms.png")
    content = (tmp_path / "new" / "forms.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width == {1: 780, 3: 1820}[panels]
    assert height > 400


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="choose another place"):
        plot_forms(report(), tmp_path / "file" / "forms.png")


def test_a_report_refuses_what_it_does_not_know() -> None:
    content = json.loads(report().model_dump_json())
    assert CompressionReport.model_validate(content) == report()
    with pytest.raises(ValueError, match="speed"):
        CompressionReport.model_validate({**content, "speed": 1})


def test_nothing_is_measured_without_a_base(make_vector: MakeVector, tmp_path: Path) -> None:
    vector = save_vector(make_vector(rank=3), tmp_path / "medical")
    found = compress_forms(tmp_path / "medical", [parse_form("rank=3")], tmp_path / "out")
    assert (found.data, found.queries, found.forms[0].behaviour) == (None, 0, [])
    assert not (tmp_path / "out" / "journal.jsonl").exists()
    back = load_vector(tmp_path / "out" / "rank-3")
    for name, delta in vector.positive.items():
        torch.testing.assert_close(back.positive[name].dense(), delta.dense(), rtol=0, atol=1e-4)
