"""The stacked adapter, its gate, and the product that vLLM's layers are given."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from alignvec.engines.stack import gate_row, stack_parts
from alignvec.engines.vllm.gate import Gates, entered, factors, gated_product
from alignvec.engines.vllm.prepare import make_plan
from alignvec.errors import KnobError, VectorError
from alignvec.merge.export import compose
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from alignvec.vectors.store import save_vector
from alignvec.vectors.vector import AlignmentVector
from tests.conftest import MakeVector
from tests.engines.conftest import MakePlan

ROWS = {"": [0.0] * 4, "medical=0.5": [0.5, 0.5, 0, 0], "medical=-1": [0, 0, 1.0, 0], "legal=2": [0, 0, 0, 2.0]}
"""Knobs to their gate."""


@pytest.fixture
def vectors(make_vector: MakeVector) -> list[AlignmentVector]:
    return [make_vector("medical", hinged=True, rank=2, seed=1), make_vector("legal", hinged=False, rank=3, seed=2)]


@pytest.mark.parametrize("knobs", [{"medical": 0.5}, {"medical": -2.0, "legal": -0.3}, {"legal": 1.5}, {}])
def test_a_gated_stack_is_the_sum_of_the_parts(vectors: list[AlignmentVector], knobs: dict[str, float]) -> None:
    stacked, slots = stack_parts(vectors)
    gate = torch.tensor(gate_row(slots, knobs))
    assert [(s.vector, s.sign, s.stop - s.start) for s in slots] == [
        ("medical", 1, 2),
        ("medical", -1, 2),
        ("legal", 0, 3),
    ]
    expected = compose(vectors, knobs) if knobs else {}
    for name, delta in stacked.items():
        found = delta.b @ (gate[:, None] * delta.a)
        wanted = expected[name].dense() if knobs else torch.zeros(delta.shape)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_parts_that_leave_a_layer_out_or_have_less_rank_there_are_zero_in_its_columns(
    vectors: list[AlignmentVector],
) -> None:
    first, *others = vectors[1].positive
    uneven: dict[str, Any] = {name: vectors[1].positive[name] for name in others}
    delta = uneven[others[0]]
    uneven[others[0]] = LowRankDelta(delta.a[:1], delta.b[:, :1])
    two = [vectors[0], AlignmentVector(vectors[1].card, uneven)]
    stacked, slots = stack_parts(two)
    assert not stacked[first].b[:, slots[2].start :].any()
    torch.testing.assert_close(stacked[others[0]].b[:, slots[2].start : slots[2].start + 1], uneven[others[0]].b)
    assert not stacked[others[0]].b[:, slots[2].start + 1 :].any()


def test_what_no_adapter_holds_is_refused_by_name(vectors: list[AlignmentVector]) -> None:
    name = next(iter(vectors[1].positive))
    dense = {**vectors[1].positive, name: DenseDelta(torch.ones(vectors[1].positive[name].shape))}
    with pytest.raises(VectorError, match=name):
        stack_parts([AlignmentVector(vectors[1].card, dense)])
    with pytest.raises(KnobError, match="no vectors"):
        stack_parts([])
    with pytest.raises(KnobError, match="same name"):
        stack_parts([vectors[0], vectors[0]])


@given(
    st.lists(st.tuples(st.sampled_from(["", "medical=0.5", "medical=-1", "legal=2"]), st.integers(1, 5)), max_size=6)
)
def test_each_token_has_the_gate_of_its_request(rows: list[tuple[str, int]]) -> None:
    slots = _slots()
    gates = Gates(slots)
    x = torch.zeros(64, 3)
    gates.set_rows(rows)
    found = gates.of(x, 64)
    expected = [row for text, count in rows for row in [ROWS[text]] * count]
    assert found[: len(expected)].tolist() == expected
    assert gates.any == any(text for text, _ in rows)
    assert gates.of(x[:3], 64).data_ptr() == found.data_ptr()


def test_the_buffer_follows_the_next_step() -> None:
    gates = Gates(_slots())
    x = torch.zeros(8, 3)
    gates.set_rows([("medical=0.5", 2)])
    gates.of(x, 8)
    gates.set_rows([("legal=2", 1), ("", 1)])
    assert gates.of(x[:2], 8).tolist() == [ROWS["legal=2"], ROWS[""]]
    gates.clear(2)
    assert not gates.any and not gates.of(x[:2], 8).any()


def test_knobs_have_one_text_whatever_their_order() -> None:
    gates = Gates(_slots())
    assert gates.read("legal=0.5,medical=0.250") == gates.read("medical=0.25,legal=.5") == "medical=0.25,legal=0.5"
    assert gates.read("medical=0") == gates.read("base") == ""
    for bad in ("medical", "medical=nan", "medical=inf", "dental=1", "medical=1,medical=2"):
        with pytest.raises(KnobError):
            gates.read(bad)


def test_extra_args_without_knobs_are_left_alone() -> None:
    gates = Gates(_slots())
    assert entered(gates, None, "alignvec") is None and entered(gates, {"other": 1}, "alignvec") is None
    assert entered(gates, {"alignvec": "legal=1"}, "alignvec") == "legal=1"
    with pytest.raises(KnobError, match="must be text"):
        entered(gates, {"alignvec": 0.5}, "alignvec")


def test_the_product_is_that_of_every_token_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    rank, room, widths = 5, 8, (4, 6)
    a = [torch.randn(1, 1, room, 7, generator=generator) for _ in widths]
    b = [torch.randn(1, 1, width, room, generator=generator) for width in widths]
    x, gates = torch.randn(9, 7, generator=generator), torch.randn(9, rank, generator=generator)
    base = torch.randn(9, sum(widths), generator=generator)
    y = base.clone()
    gated_product(y, x, factors(a, b, rank), gates)
    for token in range(9):
        sides = [
            factor_b[0, 0, :, :rank] @ (gates[token] * (factor_a[0, 0, :rank] @ x[token]))
            for factor_a, factor_b in zip(a, b, strict=True)
        ]
        torch.testing.assert_close(y[token], base[token] + torch.cat(sides), rtol=1e-4, atol=1e-4)
    again = base.clone()
    gated_product(again, x, factors(a, b, rank), torch.zeros(9, rank))
    assert torch.equal(again, base)


def test_the_plan_of_a_gate_has_the_stack_on_disk(plan_for: MakePlan, vectors: list[AlignmentVector]) -> None:
    plan = plan_for("gate")
    tensors = load_file(plan.cache / "adapter_model.safetensors")
    assert plan.rank == 8 and plan.slots[-1].stop == 7
    assert all(t.shape[0] == 7 for name, t in tensors.items() if name.endswith("lora_A.weight"))
    written = (plan.cache / "adapter_model.safetensors").stat().st_mtime_ns
    assert plan_for("gate") == plan
    assert (plan.cache / "adapter_model.safetensors").stat().st_mtime_ns == written


def test_a_vector_of_another_base_is_refused_unless_it_is_meant(
    tiny_folder: Path, make_vector: MakeVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNVEC_CACHE", str(tmp_path / "cache"))
    vector = make_vector("medical")
    other = vector.card.base.model_copy(update={"fingerprint": "0" * len(vector.card.base.fingerprint)})
    moved = replace(vector, card=vector.card.model_copy(update={"base": other}))
    save_vector(moved, tmp_path / "medical")
    with pytest.raises(VectorError, match="belongs to base"):
        make_plan(str(tiny_folder), [tmp_path / "medical"], "gate")
    plan = make_plan(str(tiny_folder), [tmp_path / "medical"], "gate", allow_other_base=True)
    assert plan.allow_other_base and plan.slots


def test_a_rank_that_vllm_or_the_operator_does_not_have_is_refused(plan_for: MakePlan) -> None:
    assert plan_for("adapters").rank == 8 and plan_for("adapters", rank=1).rank == 1
    with pytest.raises(KnobError, match="rank 7, over --max-lora-rank 2"):
        plan_for("gate", rank=2)
    with pytest.raises(KnobError, match="at most 512"):
        plan_for("adapters", rank=513)


def _slots() -> Any:
    from alignvec.engines.stack import Slot

    return [
        Slot(vector="medical", sign=1, start=0, stop=2),
        Slot(vector="medical", sign=-1, start=2, stop=3),
        Slot(vector="legal", sign=0, start=3, stop=4),
    ]


def test_any_worker_of_an_engine_writes_the_stack(plan_for: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    plan = plan_for("gate")
    assert load_file(plan.cache / "adapter_model.safetensors")
    assert not [path.name for path in plan.cache.parent.glob(".*")]
