"""Gates follow the model to another device and dtype; `meta` stands for a GPU, and refuses to be mixed with the CPU."""

from pathlib import Path

import pytest
import torch
from torch import nn

from alignvec import models
from alignvec.steer.rowwise import RowwiseModules
from alignvec.steer.stacked import StackedLayers
from alignvec.vectors.delta import DenseDelta, LowRankDelta
from alignvec.vectors.vector import Part

VOCABULARY = 258
Turned = StackedLayers | RowwiseModules


@pytest.fixture
def model(tiny_folder: Path) -> nn.Module:
    """The tiny model in bfloat16 where nothing is computed, with an output head of its own."""
    base = models.load(str(tiny_folder), device="cpu").model
    base.lm_head.weight = nn.Parameter(base.lm_head.weight.detach().clone())
    moved: nn.Module = base.to(device="meta", dtype=torch.bfloat16)
    return moved


def stacked(model: nn.Module) -> Turned:
    linear = {f"{n}.weight": m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    parts = [
        Part(name, {n: LowRankDelta(torch.randn(2, m.in_features), torch.randn(m.out_features, 2)) for n, m in some}, 0)
        for name, some in (("all", linear.items()), ("head", [("lm_head.weight", linear["lm_head.weight"])]))
    ]
    return StackedLayers(model, parts)


def rowwise(model: nn.Module) -> Turned:
    one_dimensional = {n: DenseDelta(torch.randn(p.shape)) for n, p in model.named_parameters() if p.ndim == 1}
    table = {"model.embed_tokens.weight": DenseDelta(torch.randn(VOCABULARY, 32))}
    return RowwiseModules(model, [Part("norms", one_dimensional, 0), Part("embedding", table, 0)])


@pytest.mark.parametrize("make", [stacked, rowwise])
def test_rows(model: nn.Module, make: type) -> None:
    turned = make(model)
    turned.turn(torch.tensor([[0.5, 0.0], [0.0, 1.0], [0.3, -0.2]]))
    logits = model(input_ids=torch.zeros((3, 7), dtype=torch.long, device="meta")).logits
    assert (logits.device.type, logits.dtype, logits.shape) == ("meta", torch.bfloat16, (3, 7, VOCABULARY))


@pytest.mark.parametrize("make", [stacked, rowwise])
def test_packed_tokens(model: nn.Module, make: type) -> None:
    turned = make(model)
    turned.turn_packed(torch.rand(7, 2), torch.tensor([2, 6]))
    ids = torch.zeros((1, 7), dtype=torch.long, device="meta")
    seen = torch.tensor([2, 6], device="meta")
    assert model(input_ids=ids, logits_to_keep=seen).logits.shape == (1, 2, VOCABULARY)


def test_layers_that_are_alike_share_one_gate(model: nn.Module) -> None:
    """Each copy to a GPU is a wait, and a served batch turns the knobs at every step."""
    turned = stacked(model)
    turned.turn_packed(torch.rand(7, 2), torch.tensor([2, 6]))
    stacks = turned._stacks  # type: ignore[union-attr]
    gates = {id(stack.gate): stack.columns for stack in stacks.values()}
    assert len(gates) == len(set(gates.values())) < len(stacks)
