"""Each method against what it must be by its formula."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alignvec.data.schema import PreferenceRow
from alignvec.errors import ConfigError, KnobError, VectorError
from alignvec.logprobs import encode_prompt
from alignvec.models import BaseModel
from alignvec.reproduce.methods.base import Base
from alignvec.reproduce.methods.control_vectors import (
    added,
    find_control_vectors,
    load_control_vectors,
    save_control_vectors,
)
from alignvec.reproduce.methods.joint import Joint, JointVector, load_joint
from alignvec.reproduce.methods.knobs import knob_method
from alignvec.reproduce.methods.mixing import mixing_method
from alignvec.reproduce.methods.prompting import FewShot, ZeroShot, shipped_instructions
from alignvec.reproduce.methods.soup import Soup
from alignvec.reproduce.methods.steering import Steering
from alignvec.reproduce.methods.strengths import between
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import Router, RouterCard
from alignvec.steer.sampling import GREEDY, Sampling
from alignvec.vectors.algebra import sides, two_sided
from alignvec.vectors.delta import DenseDelta
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.store import save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector
from tests.reproduce.methods.all_methods import BOTH, DOMAINS, INSTRUCTIONS, LEVELS, hinged_pair, some_rows

QUERIES = ["why?", "How do I sleep better?"]
SHORT = GREEDY.model_copy(update={"max_new_tokens": 16})
SAMPLED = Sampling(max_new_tokens=16)
TEXTS = [["yes it is", "no"]] * 2
EXPERT = {"medical": "expert"}


def strengths(value: float) -> dict[str, dict[str, float]]:
    return {domain: {"avoidance": -value, "generic": 0.0, "expert": value} for domain in DOMAINS}


def logits_of(tiny: BaseModel, query: str) -> torch.Tensor:
    ids = torch.tensor([encode_prompt(tiny.tokenizer, [{"role": "user", "content": query}])])
    with torch.no_grad():
        found: torch.Tensor = tiny.model(ids).logits[0, -1]
    return found


@pytest.mark.parametrize("sampling", [SHORT, SAMPLED])
def test_mixing_at_0_is_the_base_and_at_1_the_aligned_model(
    tiny: BaseModel, make_vector: MakeVector, sampling: Sampling
) -> None:
    vectors = hinged_pair(make_vector)
    none, full = (mixing_method(tiny, vectors, strengths(value)) for value in (0.0, 1.0))
    base, aligned = Base(tiny), knob_method(tiny, vectors, "hinged", strengths(1.0))
    for goal in (EXPERT, {"legal": "avoidance"}):
        asked = [goal] * 2
        assert none.reply(QUERIES, asked, sampling) == base.reply(QUERIES, asked, sampling)
        assert full.reply(QUERIES, asked, sampling) == aligned.reply(QUERIES, asked, sampling)
        assert torch.allclose(full.score(QUERIES, TEXTS, asked), aligned.score(QUERIES, TEXTS, asked), atol=1e-4)
    assert full.members({"medical": "avoidance"}) == [({"medical": -1.0}, 1.0)]
    assert full.members(BOTH) == [({}, -1.0), ({"medical": 1.0}, 1.0), ({"legal": -1.0}, 1.0)]


def test_mixing_combines_logits_by_the_formula(tiny: BaseModel, make_vector: MakeVector) -> None:
    """logits = base + .8 (medical - base) + .8 (legal, reversed - base), token by token."""
    vectors = hinged_pair(make_vector)
    mixing, model = mixing_method(tiny, vectors, strengths(0.8)), KnobbedModel(tiny, vectors)
    ids = encode_prompt(tiny.tokenizer, [{"role": "user", "content": "why?"}])
    said = list(ids)
    for _ in range(8):
        seen = []
        for knobs in ({}, {"medical": 1.0}, {"legal": -1.0}):
            with torch.no_grad(), model.knobs(knobs) as inner:
                seen.append(inner(torch.tensor([said])).logits[0, -1].double())
        mixed = seen[0] + 0.8 * (seen[1] - seen[0]) + 0.8 * (seen[2] - seen[0])
        said.append(int(mixed.argmax()))
        if said[-1] == tiny.tokenizer.eos_token_id:
            break
    wanted = tiny.tokenizer.decode(said[len(ids) :], skip_special_tokens=True).strip()
    assert mixing.reply(["why?"], [BOTH], SHORT.model_copy(update={"max_new_tokens": 8})) == [wanted]
    total, end = 0.0, tiny.tokenizer.eos_token_id
    said = list(ids)
    for token in [*tiny.tokenizer("no", add_special_tokens=False)["input_ids"], end]:
        seen = []
        for knobs in ({}, {"medical": 1.0}, {"legal": -1.0}):
            with torch.no_grad(), model.knobs(knobs) as inner:
                seen.append(inner(torch.tensor([said])).logits[0, -1].double())
        mixed = seen[0] + 0.8 * (seen[1] - seen[0]) + 0.8 * (seen[2] - seen[0])
        total += float(mixed.log_softmax(-1)[token])
        said.append(token)
    assert float(mixing.score(["why?"], [["no", "yes it is"]], [BOTH])[0, 0]) == pytest.approx(total, abs=1e-3)


def test_rows_that_differ_in_a_dense_vector_cannot_be_mixed(tiny: BaseModel, make_vector: MakeVector) -> None:
    made = make_vector("medical", scale=0.3)
    dense = [{name: DenseDelta(d.dense()) for name, d in part.deltas.items()} for part in made.parts]
    mixing = mixing_method(tiny, [AlignmentVector(made.card, *dense)], strengths(0.5))
    with pytest.raises(KnobError, match="compress"):
        mixing.reply(["why?"], [EXPERT], SHORT)


def test_a_soup_of_one_is_the_aligned_model_and_of_two_their_mean(tiny: BaseModel, make_vector: MakeVector) -> None:
    vectors = hinged_pair(make_vector)
    soup, model = Soup(tiny, vectors, LEVELS), KnobbedModel(tiny, vectors)
    assert soup.reply(QUERIES, [EXPERT] * 2, SAMPLED) == model.generate(QUERIES, {"medical": 1.0}, SAMPLED)
    assert soup.knobs({"medical": "generic"}) == {}
    assert soup.knobs({"medical": "generic", "legal": "avoidance"}) == {"legal": -0.5}
    wanted = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    for vector, side in zip(vectors, (0, 1), strict=True):
        for name, delta in sides(vector)[side].positive.items():
            wanted[name] += delta.dense() / 2
    by_soup = soup.score(QUERIES, TEXTS, [BOTH] * 2)
    tiny.model.load_state_dict(wanted)
    assert torch.allclose(Base(tiny).score(QUERIES, TEXTS, [{}] * 2), by_soup, atol=1e-3)


def test_forms_come_from_the_two_sides(tiny: BaseModel, make_vector: MakeVector) -> None:
    vectors = hinged_pair(make_vector)
    asked = [EXPERT, {"medical": "avoidance"}]
    positive, negative = sides(vectors[0])
    for form, own in (("one-sided", positive), ("two-sided", two_sided(positive, negative)), ("hinged", vectors[0])):
        method = knob_method(tiny, vectors, form, strengths(0.7))
        alone = KnobbedModel(tiny, [own]).generate(QUERIES, [{"medical": 0.7}, {"medical": -0.7}], SAMPLED)
        assert method.reply(QUERIES, asked, SAMPLED) == alone
    with pytest.raises(VectorError, match="not hinged"):
        knob_method(tiny, [make_vector(hinged=False)], "one-sided", {})
    with pytest.raises(ConfigError, match="both of domain"):
        again = AlignmentVector(
            vectors[0].card.model_copy(update={"name": "twin"}), vectors[0].positive, vectors[0].negative
        )
        knob_method(tiny, [vectors[0], again], "hinged", {})
    with pytest.raises(ConfigError, match="no strength for medical=expert"):
        knob_method(tiny, vectors, "hinged", {}).knobs(EXPERT)


@pytest.mark.parametrize(("bias", "acts"), [(50.0, True), (-50.0, False)])
def test_a_routed_knob_acts_where_the_router_says(
    tiny: BaseModel, make_vector: MakeVector, bias: float, acts: bool
) -> None:
    card = RouterCard(base=fingerprint(tiny.folder), domains=DOMAINS, layers=(1,))
    router = Router(card, np.zeros((2, 32)), np.full(2, bias))
    vectors = hinged_pair(make_vector)
    method = knob_method(tiny, vectors, "hinged", strengths(1.0), router=router)
    assert method.name == "hinged-routed"
    wanted = knob_method(tiny, vectors, "hinged", strengths(float(acts))).reply(QUERIES, [BOTH] * 2, SAMPLED)
    assert method.reply(QUERIES, [BOTH] * 2, SAMPLED) == wanted


def test_replies_with_another_router_have_another_key(tiny: BaseModel, make_vector: MakeVector) -> None:
    card = RouterCard(base=fingerprint(tiny.folder), domains=DOMAINS, layers=(1,))
    measured = card.model_copy(update={"measured": {"right": 1.0}})
    weight, bias, vectors = np.ones((2, 32)), np.ones(2), hinged_pair(make_vector)

    def key(router: Router) -> str:
        return knob_method(tiny, vectors, "hinged", strengths(1.0), router=router).key(BOTH)

    keys = [key(Router(card, *tensors)) for tensors in ((weight, bias), (weight * 2, bias), (weight, bias * 2))]
    assert len(set(keys)) == 3 and key(Router(measured, weight, bias)) == keys[0]


def test_a_joint_vector_serves_its_goal_alone(tiny: BaseModel, make_vector: MakeVector, tmp_path: Path) -> None:
    vector = make_vector("both", hinged=False, seed=5, scale=0.3)
    joint = Joint(tiny, [JointVector(BOTH, vector, 12.0)])
    turned = dict(reversed(BOTH.items()))
    wanted = KnobbedModel(tiny, [vector]).generate(QUERIES, {"both": 1.0}, SAMPLED)
    assert joint.reply(QUERIES, [BOTH, turned], SAMPLED) == wanted
    with pytest.raises(ConfigError, match="no vector was trained jointly for medical=expert"):
        joint.reply(QUERIES, [EXPERT] * 2, SAMPLED)
    assert joint.set_up(BOTH) == joint.set_up(EXPERT) == 12.0
    with pytest.raises(ConfigError, match="two joint vectors"):
        Joint(tiny, [JointVector(BOTH, vector), JointVector(turned, vector)])
    save_vector(vector, tmp_path / "joint")
    read = load_joint(tiny, {"medical=expert, legal=avoidance": tmp_path / "joint"})
    assert read.reply(QUERIES, [BOTH] * 2, SAMPLED) == wanted and read.set_up(BOTH) is None
    with pytest.raises(ConfigError, match="cannot read the goal"):
        load_joint(tiny, {"medical": tmp_path / "joint"})


def test_control_vectors_are_differences_of_mean_hidden_states(tiny: BaseModel) -> None:
    """The packed row's means are those of each reply run alone; layer 0's are `transformers`' own hidden states."""
    rows = some_rows(domains=("medical",))
    found = find_control_vectors(tiny, rows)
    means = {level: torch.zeros(32, dtype=torch.float64) for level in LEVELS}
    for row in rows:
        prompt = encode_prompt(tiny.tokenizer, [{"role": "user", "content": row.query}])
        for level in LEVELS:
            text = row.responses[level] + "<|im_end|>"
            reply = tiny.tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                states = tiny.model.model(torch.tensor([prompt + reply]), output_hidden_states=True).hidden_states
            means[level] += states[1][0, len(prompt) :].double().mean(dim=0) / len(rows)
    wanted = means["expert"] - (means["avoidance"] + means["generic"]) / 2
    assert torch.allclose(found.directions["medical"]["expert"][0].double(), wanted, atol=1e-4)
    assert found.directions["medical"]["expert"].shape == (2, 32) and list(found.directions) == ["medical"]


def test_steering_adds_to_the_residual_stream_and_leaves_nothing_behind(tiny: BaseModel) -> None:
    before = logits_of(tiny, "why?")
    shift = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(0))
    with added(tiny, [1], shift):
        moved = logits_of(tiny, "why?")
    assert torch.equal(logits_of(tiny, "why?"), before)
    ids = torch.tensor([encode_prompt(tiny.tokenizer, [{"role": "user", "content": "why?"}])])
    grabbed: list[torch.Tensor] = []
    handle = tiny.model.model.norm.register_forward_pre_hook(lambda _, args: grabbed.append(args[0]))
    with torch.no_grad():
        tiny.model(ids)
    handle.remove()
    with torch.no_grad():
        wanted = tiny.model.lm_head(tiny.model.model.norm(grabbed[0] + shift[0]))[0, -1]
    assert torch.allclose(moved, wanted, atol=1e-5) and not torch.allclose(moved, before, atol=1e-2)
    with pytest.raises(RuntimeError), added(tiny, [0, 1], shift.expand(1, 2, 32)):
        raise RuntimeError
    assert torch.equal(logits_of(tiny, "why?"), before)


def test_alpha_multiplies_the_direction(tiny: BaseModel) -> None:
    vectors = find_control_vectors(tiny, some_rows())
    at = {a: Steering(tiny, vectors, {"medical": {"expert": a}}, layers=[0]) for a in (0.0, 1.5)}
    assert at[0.0].reply(QUERIES, [EXPERT] * 2, SAMPLED) == Base(tiny).reply(QUERIES, [{}] * 2, SAMPLED)
    shift = 1.5 * vectors.directions["medical"]["expert"][:1]
    with added(tiny, [0], shift[None]):
        wanted = Base(tiny).score(QUERIES, TEXTS, [{}] * 2)
    assert torch.equal(at[1.5].score(QUERIES, TEXTS, [EXPERT] * 2), wanted)
    with pytest.raises(ConfigError, match="no layers"):
        Steering(tiny, vectors, {}, layers=[2])
    assert Steering(tiny, vectors, {}).layers == (1,)


def test_control_vectors_are_stored(tiny: BaseModel, tmp_path: Path) -> None:
    found, own = find_control_vectors(tiny, some_rows()), fingerprint(tiny.folder)
    save_control_vectors(found, tmp_path / "cv")
    read = load_control_vectors(tmp_path / "cv", own)
    assert read.digest == found.digest and read.seconds == found.seconds
    with pytest.raises(VectorError, match="another base"):
        load_control_vectors(tmp_path / "cv", "0" * 64)
    with pytest.raises(VectorError, match="no control vectors"):
        load_control_vectors(tmp_path, own)
    (tmp_path / "cv" / "control_vectors.safetensors").write_bytes(b"x")
    with pytest.raises(VectorError, match="damaged"):
        load_control_vectors(tmp_path / "cv", own)


def test_prompts_qualify_instructions_by_domain_and_show_examples_in_rounds(
    tiny: BaseModel, rows: list[PreferenceRow]
) -> None:
    zero = ZeroShot(tiny, INSTRUCTIONS)
    assert zero.before(EXPERT) == [{"role": "system", "content": "If the question is medical: Be expert."}]
    assert zero.before(BOTH)[0]["content"].splitlines()[1] == "If the question is legal: Be avoidance."
    train = some_rows()
    shown = FewShot(tiny, train, shots=2).before(BOTH)
    assert [turn["content"] for turn in shown[::2]] == [train[i].query for i in (0, 2, 1, 3)]
    assert [turn["role"] for turn in shown] == ["user", "assistant"] * 4
    assert shown[1]["content"] == train[0].responses["expert"]
    assert shown[3]["content"] == train[2].responses["avoidance"]
    with pytest.raises(ConfigError, match="needs 3 training rows"):
        FewShot(tiny, train).before(EXPERT)
    assert "specialist" in shipped_instructions(["medical"])["medical"]["expert"]


def test_prompts_that_change_nothing_give_the_replies_of_the_base(
    tiny: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns before the query do not change the sampling noise, which the replies of forced logits are made of alone."""
    base, zero, few = Base(tiny), ZeroShot(tiny, INSTRUCTIONS), FewShot(tiny, some_rows(), shots=1)
    wanted = base.reply(QUERIES, [{}] * 2, SAMPLED)
    with monkeypatch.context() as changed:
        changed.setattr(zero, "before", lambda goal: [])
        assert zero.reply(QUERIES, [BOTH, EXPERT], SAMPLED) == wanted
    tiny.model.lm_head.weight.data.zero_()
    wanted = base.reply(QUERIES, [{}] * 2, SAMPLED)
    for method in (zero, few):
        assert method.reply(QUERIES, [BOTH, EXPERT], SAMPLED) == wanted
        chats = [[*method.before(BOTH), {"role": "user", "content": query}] for query in QUERIES]
        assert KnobbedModel(tiny).continue_chats(chats, {}, SAMPLED) != wanted  # noise of the whole prompt


def test_levels_between_are_searched_around_0() -> None:
    assert between((0.5, 1.0, 2.0)) == (0.0, 0.5, -0.5)
    assert between((1.0, 0.4, 2.0, 3.0)) == (0.0, 0.2, -0.2, 0.4)
    assert between((2.0,)) == (0.0,)
