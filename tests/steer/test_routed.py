"""What a router makes of a text on a knobbed model."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from alignvec import models, processes
from alignvec.errors import VectorError
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import (
    domain_probabilities,
    domains_of,
    format_probabilities,
    routed,
    router_for,
    row_shares,
    turn_by,
    user_turns,
)
from alignvec.steer.router import Array, Router, RouterCard, acting, layer_features, save_router
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector
from tests.together import together


@pytest.fixture
def router(tiny: models.BaseModel) -> Router:
    weight = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32).astype(np.float64)
    card = RouterCard(base=fingerprint(tiny.folder), domains=("medical", "legal"), layers=(2,))
    return Router(card, weight, np.zeros(2))


def test_settings_are_turned_by_what_the_base_makes_of_the_text(
    router: Router, tiny: models.BaseModel, make_vector: MakeVector
) -> None:
    knobbed = KnobbedModel(tiny, [make_vector("medical", scale=0.3), make_vector("style")])
    wanted = router.probabilities(tiny, ["why?"])[0]
    settings = [{"medical": 1.0, "style": 0.5}, {}, {"medical": -0.5}]
    for _ in range(2):  # also after the knobs were turned
        probabilities, turned = routed(router, knobbed, ("why?",), settings)
        assert list(probabilities) == ["medical", "legal"]
        assert list(probabilities.values()) == pytest.approx(wanted)
        assert turned[0] == pytest.approx({"medical": wanted[0], "style": 0.5})
        assert turned[1] == {} and turned[2]["medical"] == pytest.approx(-wanted[0] / 2)
        with knobbed.knobs({"medical": 1.0}):
            pass


@pytest.mark.parametrize("ramp", [(0.0, 1.0), (0.2, 0.5)])
def test_the_last_turn_of_a_domain_counts_with_all_after_it(
    router: Router, tiny: models.BaseModel, ramp: tuple[float, float]
) -> None:
    texts = ["aaaaaaa", "zzzz zzzz", "0", "Why?", "what is this"]
    features = layer_features(tiny, texts, (2,))[0]
    highest = np.sort((features @ router.weight.T).max(axis=1))
    half = sum(ramp) / 2  # where half of a knob acts
    bias = np.log(half / (1 - half)) - (highest[2] + highest[3]) / 2
    between = Router(router.card.model_copy(update={"ramp": ramp}), router.weight, np.full(2, bias))
    found = dict(zip(texts, between.from_features(features), strict=True))
    known = [text for text in texts if acting(found[text], ramp).max() >= 0.5]
    assert len(known) == 2
    for turns in (*itertools.permutations(texts, 2), *itertools.permutations(texts, 3)):
        start = max((i for i, turn in enumerate(turns) if turn in known), default=0)
        wanted = between.probabilities(tiny, ["\n".join(turns[start:])])[0]
        assert list(domain_probabilities(between, tiny, turns).values()) == pytest.approx(wanted)
    for one in texts:
        assert list(domain_probabilities(between, tiny, (one,)).values()) == pytest.approx(found[one])
    nothing = between.probabilities(tiny, [""])[0]
    assert list(domain_probabilities(between, tiny, ()).values()) == pytest.approx(nothing)


def test_from_half_of_a_knob_on_a_turn_is_enough_and_nothing_else_is_read(
    router: Router, tiny: models.BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    whole = Router.probabilities

    def note(self: Router, base: models.BaseModel, texts: list[str]) -> Array:
        read.append(texts)
        return whole(self, base, texts)

    monkeypatch.setattr(Router, "probabilities", note)
    for bias, wanted in ((0.0, [["c"]]), (-1e-6, [["c"], ["b"], ["a\nb\nc"]])):  # 0: exactly a half of every knob
        flat = Router(router.card, np.zeros((2, 32)), np.full(2, bias))
        read.clear()
        found = domain_probabilities(flat, tiny, ("a", "b", "c"))
        assert (read, list(found.values())) == (wanted, pytest.approx([0.5, 0.5]))
    read.clear()
    domain_probabilities(Router(router.card, np.zeros((2, 32)), np.zeros(2)), tiny, ("a", "b"))
    assert read == [["b"]]


def test_a_router_is_read_for_its_base_alone(router: Router, tiny: models.BaseModel, tmp_path: Path) -> None:
    save_router(router, tmp_path / "router")
    assert router_for(tiny, tmp_path / "router").card == router.card
    card = router.card.model_copy(update={"base": "0" * 64})
    save_router(Router(card, router.weight, router.bias), tmp_path / "other")
    with pytest.raises(VectorError, match="another base"):
        router_for(tiny, tmp_path / "other")


def test_what_the_user_wrote_is_read_and_nothing_else(make_vector: MakeVector) -> None:
    turns = [("system", "be kind"), ("user", "one"), ("assistant", "reply"), ("user", "two")]
    assert user_turns([{"role": role, "content": content} for role, content in turns]) == ("one", "two")
    assert user_turns([{"role": "system", "content": "be kind"}]) == ()
    made = make_vector("medical")
    vector = AlignmentVector(
        made.card.model_copy(update={"name": "mine", "domain": None}), made.positive, made.negative
    )
    assert domains_of([vector, make_vector("legal")]) == {"mine": "mine", "legal": "legal"}
    assert format_probabilities({"medical": 0.966, "legal": 0.0}) == "medical 0.97, legal 0.00"


def test_a_row_has_the_share_of_each_knob_that_acts_on_it() -> None:
    turn = turn_by(["medical", "legal"], np.array([[1.0, 0.25], [0.0, 1.0], [0.0001, 0.0]]))
    asked = {"legal": -0.5, "medical": 0.8}
    assert [turn(row, asked) for row in range(3)] == [{"legal": -0.125, "medical": 0.8}, {"legal": -0.5}, {}]
    assert turn_by(["medical"], None)(0, asked) is asked


@pytest.mark.parametrize("ramp", [(0.0, 1.0), (0.3, 0.6)])
def test_each_query_has_a_share_of_each_knob_and_all_of_one_whose_domain_is_not_known(
    router: Router, tiny: models.BaseModel, make_vector: MakeVector, ramp: tuple[float, float]
) -> None:
    router = Router(router.card.model_copy(update={"ramp": ramp}), router.weight, router.bias)
    other = make_vector("legal", seed=1)
    brief = AlignmentVector(other.card.model_copy(update={"name": "brief"}), other.positive, other.negative)
    knobbed = KnobbedModel(tiny, [make_vector("medical"), brief, make_vector("style", seed=2)])
    queries = ["why?", "0", "what is this about"]
    found = row_shares(router, knobbed, queries, ["style", "brief", "medical"])
    wanted = acting(router.probabilities(tiny, queries), ramp)
    assert found.shape == (3, 3)
    assert found == pytest.approx(np.stack([np.ones(3), wanted[:, 1], wanted[:, 0]], axis=1))
    assert np.unique(wanted).size > 2


def test_all_processes_have_the_shares_of_the_main_one(
    router: Router, tiny: models.BaseModel, make_vector: MakeVector, monkeypatch: pytest.MonkeyPatch
) -> None:
    knobbed = KnobbedModel(tiny, [make_vector("medical")])
    whole = Router.probabilities

    def differing(self: Router, base: models.BaseModel, texts: list[str]) -> Array:
        return np.nextafter(whole(self, base, texts), processes.index())  # one rounds otherwise than another

    monkeypatch.setattr(Router, "probabilities", differing)
    first, second = together(lambda: row_shares(router, knobbed, ["why?", "0"], ["medical"]))
    assert first.shape == (2, 1) and first.tolist() == second.tolist()
