"""Training a router on prompts that a random model can tell apart."""

import numpy as np
import pytest

from alignvec import models
from alignvec.errors import DataError
from alignvec.solve.routing import Prompt, joined, labels, report, train_router

DOMAINS = ("medical", "legal")
MEDICAL, LEGAL, NEITHER = frozenset({"medical"}), frozenset({"legal"}), frozenset[str]()


def prompts(start: int, count: int) -> list[Prompt]:
    made = [(f"aaa {'a' * i}", MEDICAL) for i in range(start, start + count)]
    made += [(f"zzz {'z' * i}", LEGAL) for i in range(start, start + count)]
    made += [(f"000 {'0' * i}", NEITHER) for i in range(start, start + count)]
    return [Prompt(text, domains) for text, domains in made]


def test_domains_are_told_apart_from_each_other_and_from_the_outside(tiny: models.BaseModel) -> None:
    router, chosen = train_router(tiny, DOMAINS, prompts(0, 12), prompts(20, 6), layers=[1, 2])
    unseen = prompts(30, 8)
    found = report(router.probabilities(tiny, [p.text for p in unseen]), unseen, DOMAINS)
    assert found.right >= 0.9 and found.recall["medical"] >= 0.9 and found.false_alarms["legal"] <= 0.1
    assert chosen["layer"] == router.card.layer in (1, 2)


def test_joined_prompts_belong_to_both() -> None:
    found = joined(prompts(0, 5), 10, seed=1)
    assert len(found) == 10 and all(p.domains == {"medical", "legal"} and {"a", "z"} <= set(p.text) for p in found)
    assert found == joined(prompts(0, 5), 10, seed=1) and not joined(prompts(0, 5)[:5], 10, seed=1)


def test_the_report_counts_what_is_right() -> None:
    asked = [Prompt("m", MEDICAL), Prompt("l", LEGAL), Prompt("both", MEDICAL | LEGAL), Prompt("n", NEITHER)]
    assert labels(asked, DOMAINS).tolist() == [[True, False], [False, True], [True, True], [False, False]]
    said = report(np.array([[0.9, 0.1], [0.6, 0.8], [0.9, 0.2], [0.1, 0.1]]), asked, DOMAINS)
    assert said.right == 0.5 and said.recall == {"medical": 1.0, "legal": 0.5}
    assert said.false_alarms == {"medical": 0.5, "legal": 0.0}
    assert said.brier == pytest.approx((0.01 + 0.01 + 0.36 + 0.04 + 0.01 + 0.64 + 0.01 + 0.01) / 8)
    sure = report(labels(asked, DOMAINS).astype(float), asked, DOMAINS)
    assert (sure.right, sure.brier, sure.calibration_error) == (1.0, 0.0, 0.0)


def test_a_domain_or_an_outside_without_prompts_is_refused(tiny: models.BaseModel) -> None:
    whole = prompts(0, 4)
    with pytest.raises(DataError, match="no training prompt belongs to legal"):
        train_router(tiny, DOMAINS, [p for p in whole if p.domains != LEGAL], whole, layers=[1])
    with pytest.raises(DataError, match="belong to none"):
        train_router(tiny, DOMAINS, whole, [p for p in whole if p.domains], layers=[1])
