"""The report on ratings: pairs, all raters together, the intended level, flags, disputes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from alignvec.data.load import SHIPPED
from alignvec.data.review.agreement import load_all, report
from alignvec.data.review.ratings import Rating, load_ratings, ratings_text
from alignvec.data.schema import LEVELS, PreferenceRow
from alignvec.errors import DataError

A, G, E = LEVELS


def rated(rater: str, shown: Sequence[str], levels: Sequence[str | None], flag: str | None = None) -> list[Rating]:
    """A rater's levels of replies to rows 0, 1, ...; the flag is on the last."""
    last = len(levels) - 1
    return [
        Rating(rater=rater, id=f"medical-{i}", shown_level=s, level=v, flag=flag if i == last else None)
        for i, (s, v) in enumerate(zip(shown, levels, strict=True))
    ]


def test_shipped_ratings_agree_throughout() -> None:
    found = report(load_ratings(SHIPPED / "ratings.jsonl"))
    (pair,) = found.pairs
    assert pair.pair == ("model-rater-1", "model-rater-2") == found.model_raters
    assert (found.replies, pair.agreement.replies, pair.left_out) == (72, 72, 0)
    assert pair.agreement.kappa.value == 1.0
    assert pair.confusion == ((24, 0, 0), (0, 24, 0), (0, 0, 24))
    assert found.together is None
    assert [one.agreement.kappa.value for one in found.intended] == [1.0, 1.0]
    assert [(d.id, d.why) for d in found.disputes] == [("legal-a-0069", ("flagged",))]
    assert [sum(by.values()) for by in found.flags.values()] == [1, 1]


def test_pairs_with_replies_that_not_both_rated() -> None:
    shown = [A, G, E, A, G, E]
    first = rated("anna", shown, [A, G, E, G, G, None], flag="unsafe")
    second = rated("ben", shown[:5], [A, E, E, A, G])
    found = report([*first, *second])
    (pair,) = found.pairs
    assert (pair.agreement.replies, pair.left_out) == (5, 1)
    assert pair.agreement.kappa.value == pytest.approx(cohen_kappa_score([A, G, E, G, G], [A, E, E, A, G]))
    assert pair.confusion == ((1, 0, 0), (1, 1, 1), (0, 0, 1))
    assert found.raters == {"anna": 6, "ben": 5}
    assert found.flags == {"anna": {"unsafe": 1}, "ben": {}}
    assert found.model_raters == ()


def test_agreement_with_the_intended_level() -> None:
    shown = [A, A, G, G, E, E]
    found = report(rated("anna", shown, [A, A, G, A, E, None], flag="other"))
    assert found.pairs == ()
    (anna,) = found.intended
    assert anna.pair == ("anna", "intended")
    assert (anna.agreement.replies, anna.left_out) == (5, 1)
    assert anna.agreement.share.value == pytest.approx(4 / 5)
    assert anna.agreement.kappa.value == pytest.approx(cohen_kappa_score([A, A, G, A, E], [A, A, G, G, E]))
    assert anna.confusion == ((2, 1, 0), (0, 1, 0), (0, 0, 1))


def test_three_raters_together_on_the_replies_that_all_rated() -> None:
    shown = [A, G, E, E]
    ratings = [
        *rated("anna", shown, [A, G, E, E]),
        *rated("ben", shown, [A, G, G, None], flag="other"),
        *rated("carl", shown[:3], [A, E, E]),
    ]
    found = report(ratings)
    assert [pair.pair for pair in found.pairs] == [("anna", "ben"), ("anna", "carl"), ("ben", "carl")]
    assert found.together is not None
    assert (found.together.agreement.replies, found.together.left_out) == (3, 1)
    # By hand: shares of agreeing pairs 1, 1/3, 1/3; levels' shares 3/9, 3/9, 3/9.
    assert found.together.agreement.share.value == pytest.approx(5 / 9)
    assert found.together.agreement.kappa.value == pytest.approx((5 / 9 - 1 / 3) / (1 - 1 / 3))


def test_disputes_and_why() -> None:
    shown = [A, G, E, E]
    first = rated("anna", shown, [A, A, E, E])
    second = rated("ben", shown, [A, A, G, E], flag="wrong facts")
    found = {d.id: d for d in report([*first, *second]).disputes}
    assert {name: d.why for name, d in found.items()} == {
        "medical-1": ("against the intended level",),
        "medical-2": ("raters differ",),
        "medical-3": ("flagged",),
    }
    assert found["medical-2"].verdicts["ben"].level == G
    assert found["medical-3"].verdicts["ben"].flag == "wrong facts"
    assert found["medical-3"].query is None


def test_texts_beside_disputes(rows: list[PreferenceRow]) -> None:
    (found,) = report(rated("anna", [A, G], [A, E]), rows).disputes
    assert (found.query, found.reply) == (rows[1].query, rows[1].responses[G])
    strange = Rating(rater="anna", id="elsewhere", shown_level=A, level=A)
    with pytest.raises(DataError, match="row 'elsewhere' was rated at level 'avoidance' but --rows"):
        report([strange], rows)
    unknown = Rating(rater="anna", id="medical-0", shown_level="terse", level=A)
    with pytest.raises(DataError, match="at level 'terse'"):
        report([unknown], rows)


def test_levels_of_other_names_and_one_level_only() -> None:
    found = report([*rated("anna", ["terse"] * 3, ["terse"] * 3), *rated("ben", ["terse"] * 3, ["terse"] * 3)])
    assert found.levels == ("terse",)
    assert found.pairs[0].agreement.kappa.value is None
    assert found.pairs[0].agreement.share.value == 1.0
    mixed = report(rated("anna", ["terse", E, A], ["terse", "long", A]))
    assert mixed.levels == (A, E, "terse", "long")


def test_levels_that_only_raters_know(rows: list[PreferenceRow]) -> None:
    ratings = rated("anna", [A, A], ["generik", G])
    assert report(ratings).unknown_levels == (G, "generik")
    assert report(ratings, rows).unknown_levels == ("generik",)
    assert report(rated("anna", [A, G], [G, A])).unknown_levels == ()


def test_a_later_file_counts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(ratings_text(rated("anna", [A, G], [A, A])))
    (tmp_path / "b.jsonl").write_text(ratings_text(rated("anna", [A, G], [A, G])[1:]))
    ratings, replaced = load_all([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert ([r.level for r in ratings], replaced) == ([A, G], 1)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match="empty.jsonl: no ratings in it"):
        load_all([tmp_path / "a.jsonl", tmp_path / "empty.jsonl"])
