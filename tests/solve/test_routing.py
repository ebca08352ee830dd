"""Training a router on prompts that a random model can tell apart."""

import numpy as np
import pytest

from alignvec import models
from alignvec.errors import DataError
from alignvec.solve.routing import Prompt, labels, report, train_router
from alignvec.steer.router import Router, RouterCard

DOMAINS = ("medical", "legal")
MEDICAL, LEGAL, NEITHER = frozenset({"medical"}), frozenset({"legal"}), frozenset[str]()


def prompts(start: int, count: int) -> list[Prompt]:
    made = [("a" * (30 + i), MEDICAL) for i in range(start, start + count)]
    made += [("z" * (30 + i), LEGAL) for i in range(start, start + count)]
    made += [("0" * (30 + i), NEITHER) for i in range(start, start + count)]
    return [Prompt(text, domains) for text, domains in made]


def test_domains_are_told_apart_from_each_other_and_from_the_outside(tiny: models.BaseModel) -> None:
    router, chosen = train_router(tiny, DOMAINS, prompts(0, 12), prompts(20, 6), layers=[1, 2])
    unseen = prompts(30, 8)
    found = report(router, router.probabilities(tiny, [p.text for p in unseen]), unseen)
    assert found.right >= 0.9 and found.recall["medical"] >= 0.9 and found.false_alarms["legal"] <= 0.1
    assert chosen["layers"] == router.card.layers in ((1,), (2,)) and router.card.ramp == chosen["ramp"]
    assert found.acts["medical"] >= 0.9 and found.leaks["legal"] <= 0.1


def test_the_report_counts_what_is_right() -> None:
    asked = [Prompt("m", MEDICAL), Prompt("l", LEGAL), Prompt("both", MEDICAL | LEGAL), Prompt("n", NEITHER)]
    assert labels(asked, DOMAINS).tolist() == [[True, False], [False, True], [True, True], [False, False]]
    card = RouterCard(base="b", domains=DOMAINS, layers=(1,), ramp=(0.1, 0.8))
    router = Router(card, np.zeros((2, 1)), np.zeros(2))
    said = report(router, np.array([[0.9, 0.1], [0.6, 0.8], [0.9, 0.2], [0.1, 0.1]]), asked)
    assert said.right == 0.5 and said.recall == {"medical": 1.0, "legal": 0.5}
    assert said.false_alarms == {"medical": 0.5, "legal": 0.0}
    assert said.brier == pytest.approx((0.01 + 0.01 + 0.36 + 0.04 + 0.01 + 0.64 + 0.01 + 0.01) / 8)
    assert said.acts == pytest.approx({"medical": 1.0, "legal": (1 + 1 / 7) / 2})
    assert said.leaks == pytest.approx({"medical": (5 / 7 + 0) / 2, "legal": 0.0})
    sure = report(router, labels(asked, DOMAINS).astype(float), asked)
    assert (sure.right, sure.brier, sure.calibration_error) == (1.0, 0.0, 0.0)


def test_a_domain_or_an_outside_without_prompts_is_refused(tiny: models.BaseModel) -> None:
    whole = prompts(0, 4)
    with pytest.raises(DataError, match="no training prompt belongs to legal"):
        train_router(tiny, DOMAINS, [p for p in whole if p.domains != LEGAL], whole, layers=[1])
    with pytest.raises(DataError, match="belong to none"):
        train_router(tiny, DOMAINS, whole, [p for p in whole if p.domains], layers=[1])
