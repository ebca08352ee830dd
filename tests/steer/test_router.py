"""The router: features, probabilities, files."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from alignvec import models
from alignvec.errors import VectorError
from alignvec.logprobs import encode_prompt
from alignvec.steer.router import (
    CARD,
    WEIGHTS,
    Router,
    RouterCard,
    acting,
    joined_layers,
    layer_features,
    load_router,
    save_router,
    sigmoid,
)
from alignvec.vectors.fingerprint import fingerprint

PROMPTS = ["why?", "a much longer prompt about nothing at all", ""]


@pytest.fixture
def router(tiny: models.BaseModel) -> Router:
    draw = np.random.default_rng(0)
    card = RouterCard(base=fingerprint(tiny.folder), domains=("medical", "legal"), layers=(1,), ramp=(0.2, 0.8))
    return Router(card, draw.normal(size=(2, 32)).astype(np.float32).astype(np.float64), np.array([0.5, -0.25]))


def test_features_are_means_over_a_prompts_own_tokens(tiny: models.BaseModel) -> None:
    found = layer_features(tiny, PROMPTS, [2, 1])
    for i, text in enumerate(PROMPTS):
        ids = torch.tensor([encode_prompt(tiny.tokenizer, [{"role": "user", "content": text}])])
        with torch.no_grad():
            states = tiny.model.model(input_ids=ids, output_hidden_states=True).hidden_states
        for place, layer in enumerate((2, 1)):
            assert found[place, i] == pytest.approx(states[layer][0].mean(dim=0).double().numpy(), abs=1e-5)


def test_in_half_precision_the_mean_is_taken_in_full(tiny_folder: Path) -> None:
    half = models.load(str(tiny_folder), device="cpu", dtype="bfloat16")
    ids = torch.tensor([encode_prompt(half.tokenizer, [{"role": "user", "content": "x" * 333}])])
    with torch.no_grad():
        states = half.model.model(input_ids=ids, output_hidden_states=True).hidden_states
    found = layer_features(half, ["x" * 333], [1, 2])
    for place, layer in enumerate((1, 2)):
        assert found[place, 0] == pytest.approx(states[layer][0].double().mean(dim=0).numpy(), abs=1e-5)


def test_a_prompt_that_is_longer_than_the_context_is_cut(tiny: models.BaseModel) -> None:
    start = len(encode_prompt(tiny.tokenizer, [{"role": "user", "content": ""}]))
    long, longer = ("y" * (tiny.context_length + more) for more in (start, 2 * start))
    found = layer_features(tiny, [long, "why?", longer], [1])[0]
    assert found[0] == pytest.approx(found[2]) and found[0] != pytest.approx(found[1])


def test_more_prompts_than_a_batch_have_the_features_of_each_alone(tiny: models.BaseModel) -> None:
    prompts = [f"{'word ' * (i % 5)}number {i}" for i in range(35)]
    found = layer_features(tiny, prompts, [1])[0]
    for i in (0, 4, 15, 16, 17, 34):
        assert found[i] == pytest.approx(layer_features(tiny, prompts[i : i + 1], [1])[0, 0], abs=1e-5)


def test_layers_stand_one_after_the_other(tiny: models.BaseModel) -> None:
    draw = np.random.default_rng(1)
    card = RouterCard(base=fingerprint(tiny.folder), domains=("medical",), layers=(2, 1))
    pooled, weight = layer_features(tiny, PROMPTS, [1, 2]), draw.normal(size=(1, 64))
    assert joined_layers(pooled).tolist() == [[*one, *other] for one, other in zip(*pooled.tolist(), strict=True)]
    wanted = pooled[1] @ weight[0, :32] + pooled[0] @ weight[0, 32:] - 0.5
    found = Router(card, weight, np.array([-0.5])).probabilities(tiny, PROMPTS)
    assert found == pytest.approx(1 / (1 + np.exp(-wanted[:, None])))


def test_log_odds_of_any_size_are_probabilities() -> None:
    with np.errstate(over="raise"):
        found = sigmoid(np.array([-1e9, -100.0, -60.0, 0.0, 100.0, 1e9]))
    smallest = 1 / (1 + np.exp(60))
    assert found.tolist() == [smallest, smallest, smallest, 0.5, 1.0, 1.0]


def test_a_vector_that_names_no_domain_has_its_name_for_one(router: Router) -> None:
    turned = router.turn({"medical": 1.0, "other": 1.0}, {"medical": 0.35}, {})
    assert turned == pytest.approx({"medical": 0.25, "other": 1.0})


def test_probabilities_turn_the_knobs_of_their_domains(router: Router, tiny: models.BaseModel) -> None:
    found = router.probabilities(tiny, PROMPTS)
    pooled = layer_features(tiny, PROMPTS, [1])[0]
    assert found == pytest.approx(1 / (1 + np.exp(-(pooled @ router.weight.T + router.bias))))
    knobs = {"medical": 1.0, "brief": -0.5, "style": 0.25}
    domains = {"medical": "medical", "brief": "legal", "style": "style"}
    turned = router.turn(knobs, {"medical": 0.65, "legal": 0.2}, domains)
    assert turned == pytest.approx({"medical": 0.75, "brief": 0.0, "style": 0.25})
    assert str(turned["brief"]) == "0.0"  # not -0


def test_a_ramp_acts_in_full_above_and_not_at_all_below() -> None:
    assert acting(np.array([0.0, 0.2, 0.5, 0.8, 1.0]), (0.2, 0.8)) == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    assert acting(np.array([0.3, 0.7]), (0.0, 1.0)) == pytest.approx([0.3, 0.7])
    for ramp in ((0.8, 0.2), (0.5, 0.5), (-0.1, 1.0), (0.0, 1.1)):
        with pytest.raises(ValueError, match="ramp"):
            RouterCard(base="b", domains=("medical",), layers=(1,), ramp=ramp)


def test_a_router_is_stored_and_belongs_to_its_base(router: Router, tiny: models.BaseModel, tmp_path: Path) -> None:
    save_router(router, tmp_path / "router")
    again = load_router(tmp_path / "router", fingerprint(tiny.folder))
    assert again.card == router.card
    for found, saved in ((again.weight, router.weight), (again.bias, router.bias)):
        assert np.array_equal(found, saved) and found.dtype == np.float64
    assert (tmp_path / "router" / WEIGHTS).stat().st_mode & 0o777 == 0o644
    stored = load_file(tmp_path / "router" / WEIGHTS)
    assert {name: tensor.dtype for name, tensor in stored.items()} == {"weight": np.float32, "bias": np.float32}
    with pytest.raises(VectorError, match="another base"):
        load_router(tmp_path / "router", "0" * 64)


@pytest.mark.parametrize(
    "damage",
    ["nothing", "card", "weights", "shape", "bias", "infinite bias", "not a number", "no bias", "missing", "folder"],
)
def test_a_damaged_router_is_refused(router: Router, tmp_path: Path, damage: str) -> None:
    place = tmp_path / "router"
    wrong: dict[str, dict[str, Any]] = {
        "shape": {"weight": router.weight[:1]},
        "bias": {"bias": router.bias[:1]},
        "infinite bias": {"bias": np.array([0.5, np.inf])},
        "not a number": {"weight": np.full_like(router.weight, np.nan)},
    }
    router = dataclasses.replace(router, **wrong.get(damage, {}))
    if damage != "nothing":
        save_router(router, place)
    if damage == "card":
        (place / CARD).write_text("{}")
    if damage == "weights":
        (place / WEIGHTS).write_bytes((place / WEIGHTS).read_bytes()[:40])
    if damage == "no bias":
        save_file({"weight": router.weight}, place / WEIGHTS)
    if damage in ("missing", "folder"):
        (place / WEIGHTS).unlink()
    if damage == "folder":
        (place / WEIGHTS).mkdir()
    with pytest.raises(VectorError, match="make"):
        load_router(place)
