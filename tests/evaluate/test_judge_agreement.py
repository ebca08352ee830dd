"""Agreement of judges against hand-computed values, and who is trusted."""

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import cohen_kappa_score

from alignvec.data.review.kappa import cohen_quadratic
from alignvec.data.schema import LEVELS
from alignvec.evaluate.agreement import agree
from alignvec.evaluate.judging import Verdict
from tests.evaluate.judges import item, said

A, G, E = LEVELS


def test_a_verdict_has_a_level_or_a_reason() -> None:
    for wrong in ({}, {"level": G, "missing": "unparsable"}):
        with pytest.raises(ValidationError, match="a level, or a reason"):
            Verdict.model_validate(wrong)


def test_kappa_share_confusion_and_missing_of_a_table_done_by_hand() -> None:
    # of 10 replies 8 have both: 6 alike; rows 4 A, 2 G, 2 E; columns 3 A, 3 G, 2 E: chance (12 + 6 + 4) / 64
    first = said([A, A, A, A, G, G, E, E, None, G])
    second = said([A, A, A, G, G, E, E, G, A, None])
    found = agree({"one": first, "two": second}, [item(i) for i in range(10)], LEVELS)
    (pair,) = found.pairs
    assert (pair.judges, pair.agreement.replies, pair.left_out) == (("one", "two"), 8, 2)
    assert pair.confusion == ((3, 1, 0), (0, 1, 1), (0, 1, 1))
    assert pair.agreement.share.value == pytest.approx(5 / 8)
    assert pair.agreement.kappa.value == pytest.approx((5 / 8 - 22 / 64) / (1 - 22 / 64))
    # squared distances seen: 3 of 1; by chance: (4*3 + 2*3 + 2*2 + 2*3) * 1 + (4*2 + 2*3) * 4 = 84, over 8
    assert pair.weighted.value == pytest.approx(1 - 3 / (84 / 8))
    assert found.trust == ()


def test_quadratic_kappa_is_scikit_learns_and_has_a_bootstrap_interval() -> None:
    generator = np.random.default_rng(3)
    first = generator.integers(4, size=90)
    second = np.where(generator.random(90) < 0.6, first, generator.integers(4, size=90))
    found = cohen_quadratic([f"row {i}" for i in range(90)], first.tolist(), second.tolist(), 4, seed=0).kappa
    assert found.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"), abs=1e-12)
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_replies_of_one_persona_are_resampled_together() -> None:
    verdicts = {"one": said([A, G, E, A] * 10), "two": said([A, G, G, G] * 10)}
    alone = agree(verdicts, [item(i) for i in range(40)], LEVELS).pairs[0].agreement
    # ten personas who are all alike cannot vary
    together = agree(verdicts, [item(i, persona=f"{i // 4}") for i in range(40)], LEVELS).pairs[0].agreement
    assert (alone.rows, together.rows) == (40, 10)
    assert alone.kappa.value == together.kappa.value
    assert alone.kappa.low is not None and together.kappa.low is None


def test_unlabelled_replies_are_not_left_out_of_a_pair_but_outside_it() -> None:
    reader = [Verdict(level=A), Verdict(missing="not labelled"), Verdict(level=G)]
    found = agree({"judge": said([A, A, None]), "reader": reader}, [item(i) for i in range(3)], LEVELS)
    assert (found.pairs[0].agreement.replies, found.pairs[0].left_out) == (1, 1)


def thirty(wrong_in_the_middle: int) -> tuple[list[Verdict], list[Verdict], list[object]]:
    """λ -1, 0 and 1, 30 replies each: ends always right, the middle read as A, G, E by turns."""
    truth = [A] * 30 + [A, G, E] * 10 + [E] * 30
    judged = list(truth)
    for i in range(30, 30 + wrong_in_the_middle):
        judged[i] = {A: G, G: E, E: A}[truth[i]]
    items: list[object] = [item(i, coefficient=(-1.0, 0.0, 1.0)[i // 30]) for i in range(90)]
    return said(judged), said(truth), items


@pytest.mark.parametrize(("wrong", "middle", "everywhere"), [(0, True, True), (18, False, True), (30, False, False)])
def test_a_judge_that_is_right_at_the_ends_only_is_not_trusted_for_the_middle(
    wrong: int, middle: bool, everywhere: bool
) -> None:
    judged, truth, items = thirty(wrong)
    bound = 0.6 if wrong == 30 else 0.4
    found = agree({"judge": judged, "reader": truth}, items, LEVELS, readers=["reader"], bound=bound)  # type: ignore[arg-type]
    (trust,) = found.trust
    assert (trust.judge, trust.reader) == ("judge", "reader")
    assert (trust.everywhere.replies, trust.middle.replies) == (90, 30)
    assert (trust.middle.trusted, trust.everywhere.trusted) == (middle, everywhere)
    assert ("NOT TO BE TRUSTED" in trust.line()) is not middle
    assert ("NOT TO BE TRUSTED at all" in trust.line()) is not everywhere


def test_full_agreement_on_few_replies_is_not_trusted_and_on_many_is() -> None:
    def low(count: int) -> tuple[float | None, bool]:
        truth = [A, G, E] * (count // 3)
        items = [item(i) for i in range(count)]
        found = agree({"judge": said(truth), "reader": said(truth)}, items, LEVELS, readers=["reader"])
        return found.trust[0].everywhere.low, found.trust[0].everywhere.trusted

    # the share's exact lower end, beyond a chance of 1/3
    assert low(6)[0] == pytest.approx((0.025 ** (1 / 6) - 1 / 3) / (2 / 3))
    assert low(6)[1] is False
    assert low(60)[1] is True


def test_a_judge_without_verdicts_on_many_labelled_replies_is_not_trusted() -> None:
    truth: list[str | None] = [A, G, E] * 20
    items = [item(i) for i in range(60)]
    for lost, trusted in ((12, True), (13, False)):
        judged = said([None] * lost + truth[lost:])
        found = agree({"judge": judged, "reader": said(truth)}, items, LEVELS, readers=["reader"]).trust[0].everywhere
        assert (found.missing, found.trusted) == (lost, trusted)


def test_a_judge_that_says_one_thing_only_has_no_kappa_above_zero_and_no_trust() -> None:
    truth = said([A, G, E] * 10)
    items = [item(i, coefficient=i % 3) for i in range(30)]
    (trust,) = agree({"judge": said([G] * 30), "reader": truth}, items, LEVELS, readers=["reader"]).trust
    assert trust.everywhere.kappa.value == 0.0
    assert not trust.everywhere.trusted and not trust.middle.trusted
    assert trust.middle.kappa.value is None and "missing" in trust.line()
