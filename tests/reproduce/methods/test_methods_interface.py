"""What holds for every method: nothing asked is the base, and rows do not see their neighbours."""

import pytest
import torch

from alignvec.errors import ConfigError
from alignvec.models import BaseModel
from alignvec.reproduce.methods.base import Base
from alignvec.reproduce.methods.method import goal_text
from alignvec.steer.sampling import GREEDY, Sampling
from tests.conftest import MakeVector
from tests.reproduce.methods.all_methods import BOTH, every_method

QUERIES = ["why?", "How do I sleep better?", "is it legal to whistle at night", "and so?"]
GOALS = [{}, BOTH, {"medical": "expert"}, {"legal": "avoidance"}]
SHORT = GREEDY.model_copy(update={"max_new_tokens": 12})
SAMPLED = Sampling(max_new_tokens=12)


def test_every_method_without_a_goal_is_the_base_and_with_one_is_not(tiny: BaseModel, make_vector: MakeVector) -> None:
    base = Base(tiny)
    wanted = base.reply(QUERIES, [{}] * 4, SAMPLED)
    texts = [["yes it is", "no"]] * 4
    plain = base.score(QUERIES, texts, [{}] * 4)
    methods = every_method(tiny, make_vector)
    assert len({method.name for method in methods}) == len(methods) == 10
    for method in methods:
        assert method.reply(QUERIES, [{}] * 4, SAMPLED) == wanted, method.name
        same = method.score(QUERIES, texts, [{}] * 4)
        if method.name == "mixing":  # scores a query at a time, so sums may round otherwise
            assert torch.allclose(same, plain, atol=1e-4)
        else:
            assert torch.equal(same, plain), method.name
        assert method.key({}) == "base"
        turned = method.reply(QUERIES, [BOTH] * 4, SAMPLED)
        moved = method.score(QUERIES, texts, [BOTH] * 4)
        if method.name != "base":
            assert turned != wanted and not torch.allclose(moved, plain, atol=1e-2), method.name
            assert method.key(BOTH) not in ("base", method.key({"medical": "expert"}))
        assert base.reply(QUERIES, [{}] * 4, SAMPLED) == wanted  # and nothing stays behind
        assert torch.equal(base.score(QUERIES, texts, [{}] * 4), plain)


def test_a_row_alone_is_the_row_in_a_mixed_batch(tiny: BaseModel, make_vector: MakeVector) -> None:
    texts = [["yes it is", "no"]] * 4
    for method in every_method(tiny, make_vector):
        for sampling in (SHORT, SAMPLED):
            together = method.reply(QUERIES, GOALS, sampling)
            alone = [method.reply([q], [g], sampling)[0] for q, g in zip(QUERIES, GOALS, strict=True)]
            assert together == alone, method.name
        scores = method.score(QUERIES, texts, GOALS)
        one = torch.cat([method.score([q], texts[:1], [g]) for q, g in zip(QUERIES, GOALS, strict=True)])
        assert torch.allclose(scores, one, atol=1e-4), method.name


def test_scores_are_log_probabilities(tiny: BaseModel, make_vector: MakeVector) -> None:
    """Those of different replies add up to less than 1, and each is below 1."""
    letters = list("abcdefghijklmnopqrstuvwxyz")
    for method in every_method(tiny, make_vector):
        scores = method.score(["why?"], [letters], [BOTH])[0]
        assert 0.0 < scores.exp().sum() < 1.0 and scores.max() < 0.0, method.name


def test_cards_say_what_a_method_needs(tiny: BaseModel, make_vector: MakeVector) -> None:
    cards = {method.name: method.card(BOTH) for method in every_method(tiny, make_vector)}
    assert cards["base"].weight_bytes == cards["zero-shot"].weight_bytes == cards["1-shot"].weight_bytes == 0
    assert cards["hinged"].weight_bytes == 2 * cards["one-sided"].weight_bytes == cards["soup"].weight_bytes
    assert cards["steering"].weight_bytes == 2 * 3 * 2 * 32 * 4  # domains, levels, layers, width, bytes
    assert cards["zero-shot"].set_up_seconds == cards["hinged"].set_up_seconds == 0.0
    assert cards["joint"].set_up_seconds is None
    assert cards["hinged"].train_seconds is None and cards["steering"].train_seconds is not None


def test_unknown_levels_and_domains_are_refused(tiny: BaseModel, make_vector: MakeVector) -> None:
    for method in every_method(tiny, make_vector):
        if method.name == "base":
            continue
        for goal in ({"medical": "wizard"}, {"botany": "expert"}):
            with pytest.raises(ConfigError):
                method.reply(["why?"], [goal], SHORT)


def test_a_goal_is_written_in_one_way() -> None:
    assert goal_text({"medical": "expert", "legal": "generic"}) == "legal=generic,medical=expert"
    assert goal_text({}) == "base"
