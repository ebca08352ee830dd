"""Training a router on prompts that a random model can tell apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from alignvec import models
from alignvec.errors import DataError
from alignvec.solve.routing import Prompt, labels, load_prompts, log_loss, report, train_router
from alignvec.steer.router import Router, RouterCard, layer_features

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


@pytest.mark.parametrize("split", [None, "train", "validation", "test"])
def test_prompts_are_read_with_the_domains_that_they_name(tmp_path: Path, split: str | None) -> None:
    lines = [
        {"query": "a", "split": "train", "domain": "medical", "more": 1},
        {"query": "b", "domains": ["legal", "medical"]},
        {"query": "c", "split": "validation", "domain": "legal", "domains": ["medical"]},
        {"query": "d", "split": "train"},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = [Prompt("a", MEDICAL), Prompt("b", MEDICAL | LEGAL), Prompt("c", MEDICAL | LEGAL), Prompt("d", NEITHER)]
    kept = [split in (None, one.get("split", "test")) for one in lines]  # without a split it is a test prompt
    found = load_prompts(tmp_path / "p.jsonl", split)
    assert found == [prompt for prompt, keep in zip(wanted, kept, strict=True) if keep]


def test_a_file_without_prompts_or_with_a_broken_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"query": "a", "split": "train"}\n')
    with pytest.raises(DataError, match="no prompts with split=test"):
        load_prompts(tmp_path / "p.jsonl", "test")
    assert load_prompts(tmp_path / "p.jsonl", "test", needed=False) == []
    (tmp_path / "p.jsonl").write_text('{"query": "a"}\n{"text": "b"}\n')
    with pytest.raises(DataError, match="2"):
        load_prompts(tmp_path / "p.jsonl")
    with pytest.raises(DataError, match="check the path"):
        load_prompts(tmp_path / "none.jsonl")


def test_log_loss_and_calibration_error_are_those_of_their_definitions() -> None:
    truth = np.array([[True, False], [True, True]])
    assert log_loss(np.array([[0.9, 0.2], [0.5, 1.0]]), truth) == pytest.approx(-np.log([0.9, 0.8, 0.5, 1.0]).mean())
    assert log_loss(np.array([[0.0, 0.0], [1.0, 1.0]]), truth) == pytest.approx(-np.log(1e-12) / 4)
    card = RouterCard(base="b", domains=("medical",), layers=(1,))
    asked = [Prompt(str(i), MEDICAL if i % 2 else NEITHER) for i in range(5)]
    said = np.array([[0.95], [1.0], [0.31], [0.39], [0.0]])
    # bins: .9 to 1 (two, of which one is right), .3 to .4 (two, one of them), 0 (one, not)
    wanted = 2 / 5 * abs(0.975 - 0.5) + 2 / 5 * abs(0.35 - 0.5) + 0.0
    assert report(Router(card, np.zeros((1, 1)), np.zeros(1)), said, asked).calibration_error == pytest.approx(wanted)


def test_a_domain_without_prompts_or_outside_is_left_out_of_its_figures() -> None:
    router = Router(RouterCard(base="b", domains=DOMAINS, layers=(1,)), np.zeros((2, 1)), np.zeros(2))
    found = report(router, np.array([[0.5, 0.5], [0.4, 0.25]]), [Prompt("a", MEDICAL), Prompt("b", MEDICAL)])
    assert (found.prompts, found.recall, found.false_alarms) == (2, {"medical": 0.5}, {"legal": 0.5})
    assert found.acts == pytest.approx({"medical": 0.45}) and found.leaks == pytest.approx({"legal": 0.375})


def test_what_is_told_of_training_is_what_the_router_does(tiny: models.BaseModel) -> None:
    held = prompts(20, 6)
    router, told = train_router(tiny, DOMAINS, prompts(0, 12), held, layers=[1, 2])
    found = layer_features(tiny, [p.text for p in held], router.card.layers)[0]
    truth = labels(held, DOMAINS)
    assert router.card.domains == DOMAINS and told["strength"] in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    plain = Router(router.card, router.weight / told["scale"], router.bias / told["scale"])
    assert log_loss(plain.from_features(found), truth) == pytest.approx(told["validation_log_loss"])
    scaled = log_loss(router.from_features(found), truth)
    for factor in (0.9, 1.1):  # the scale is the best of its neighbours, or an end
        other = Router(router.card, router.weight * factor, router.bias * factor)
        at_end = told["scale"] * factor > 4.0 or told["scale"] * factor < 0.25
        assert at_end or log_loss(other.from_features(found), truth) >= scaled - 1e-9


def test_without_layers_the_deepest_of_a_shallow_model_is_read(tiny: models.BaseModel) -> None:
    router, _ = train_router(tiny, DOMAINS, prompts(0, 6), prompts(10, 4))
    assert router.card.layers == (2,)


def test_four_layers_are_also_tried_together(tiny: models.BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of which only two together tell the domains apart."""
    from alignvec.solve import routing

    def features(base: models.BaseModel, texts: list[str], layers: list[int]) -> np.ndarray:
        draw = np.random.default_rng(len(texts))
        own = np.array([["a" in text, "z" in text] for text in texts], dtype=float)
        noise = draw.normal(size=(len(layers), len(texts), 1)) * 3
        found = np.repeat(noise, 2, axis=2)
        found[0] += 10 * own[:, :1] * [0, 1]
        found[3] += 10 * own[:, 1:] * [0, 1]
        return found

    monkeypatch.setattr(routing, "layer_features", features)
    router, told = train_router(tiny, DOMAINS, prompts(0, 12), prompts(20, 6), layers=[3, 6, 9, 12])
    assert router.card.layers == told["layers"] == (3, 6, 9, 12)
    assert router.weight.shape == (2, 8)
