"""Batches that have all tokens in one row, with a gate for each token, against models with λΔ written into them."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from written import hooks, written

from alignvec.steer.rowwise import RowwiseModules, split
from alignvec.steer.stacked import StackedLayers
from alignvec.vectors.card import BaseReference, Card
from alignvec.vectors.delta import Delta, DenseDelta, LowRankDelta
from alignvec.vectors.vector import AlignmentVector

WORDS, WIDTH, TOKENS = 11, 6, 7
IDS = torch.randint(0, WORDS, (1, TOKENS), generator=torch.Generator().manual_seed(1))
SETTINGS: list[dict[str, float]] = [
    {"all": 1.0},
    {},
    {"all": -0.5, "some": 1.5},
    {"some": -1.0},
    {"all": 0.0, "some": 0.0},
    {"all": 0.25},
    {"some": 0.75},
]
GATES = torch.tensor([[one.get("all", 0.0), one.get("some", 0.0)] for one in SETTINGS])


class GainNorm(nn.Module):
    """A norm with an argument that is passed by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(WIDTH)), nn.Parameter(torch.randn(WIDTH))

    def forward(self, x: torch.Tensor, *, gain: float = 1.0) -> torch.Tensor:
        return gain * self.weight * x / x.norm(dim=-1, keepdim=True) + self.bias


class TokenModel(nn.Module):
    """A language model that reads each token alone, so that a packed token is a row of its own."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(WORDS, WIDTH), GainNorm()
        self.q_proj, self.k_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=not tied)
        if tied:
            self.lm_head.weight = self.embed.weight

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def forward(self, ids: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        x = self.norm(self.embed(ids), gain=2.0)
        x = x + self.q_proj(x) * self.k_proj(x)
        logits: torch.Tensor = self.lm_head(x if kept is None else x[:, kept])
        return logits


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest) -> TokenModel:
    torch.manual_seed(0)
    return TokenModel(tied=request.param)


def vector(name: str, deltas: dict[str, Delta]) -> AlignmentVector:
    base = BaseReference(name="tiny", fingerprint="a" * 64, template="b" * 64)
    return AlignmentVector(Card(name=name, form="single", method="m", base=base), deltas)


def two(model: nn.Module) -> list[AlignmentVector]:
    """One that changes every tensor, and one of a linear layer that shares its input, and a norm."""
    owners = dict(model.named_modules())
    draw = torch.Generator().manual_seed(2)
    found: dict[str, Delta] = {}
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and isinstance(owners[name.rpartition(".")[0]], nn.Linear):
            rows, columns = weight.shape
            found[name] = LowRankDelta(torch.randn(2, columns, generator=draw), torch.randn(rows, 2, generator=draw))
        else:
            found[name] = DenseDelta(torch.randn(weight.shape, generator=draw))
    low = LowRankDelta(torch.randn(1, WIDTH, generator=draw), torch.randn(WIDTH, 1, generator=draw))
    some: dict[str, Delta] = {"k_proj.weight": low, "norm.weight": DenseDelta(torch.randn(WIDTH, generator=draw))}
    return [vector("all", found), vector("some", some)]


class Packed:
    """Both ways of turning, as the serving engine uses them."""

    def __init__(self, model: nn.Module) -> None:
        self.vectors = two(model)
        splits = [one for v in self.vectors for one in split(model, v) or []]
        assert len(splits) == 2
        self.both = (
            StackedLayers(model, [one.stacked for one in splits]),
            RowwiseModules(model, [one.rowwise for one in splits]),
        )

    def turn(self, gates: torch.Tensor, kept: torch.Tensor) -> None:
        for one in self.both:
            one.turn_packed(gates, kept)

    def close(self) -> None:
        for one in self.both:
            one.close()


@pytest.mark.parametrize("kept", [[3], [0, 2, 6], [5, 4, 3, 2, 1, 0], [6, 5, 4, 3, 2, 1, 0]], ids=len)
@torch.no_grad()
def test_each_token_has_its_own_gate_and_so_has_the_head_for_the_tokens_that_it_sees(
    model: TokenModel, kept: list[int]
) -> None:
    packed, index = Packed(model), torch.tensor(kept)
    packed.turn(GATES, index)
    seen, whole = model(IDS, index)[0], model(IDS)[0]
    packed.close()
    base = model(IDS)[0]
    for token, setting in enumerate(SETTINGS):
        expected = written(model, packed.vectors, setting)(IDS)[0, token]
        if len(kept) < TOKENS:  # as many as there are would be the kept ones
            torch.testing.assert_close(whole[token], expected, rtol=1e-4, atol=1e-4)
        if token in kept:
            torch.testing.assert_close(seen[kept.index(token)], expected, rtol=1e-4, atol=1e-4)
        if any(setting.values()):
            assert (expected - base[token]).abs().max() > 0.05
        elif len(kept) < TOKENS:
            assert torch.equal(whole[token], base[token])


@torch.no_grad()
def test_turned_again_at_each_step_it_is_as_if_it_had_been_turned_once(model: TokenModel) -> None:
    """Parts come and go; one that has gone stays stacked at zero until none is turned."""
    clean, every = deepcopy(model), torch.arange(TOKENS)
    packed, base = Packed(model), model(IDS)
    for gates in (GATES, GATES * torch.tensor([0.0, 1.0]), GATES * torch.tensor([1.0, 0.0]), -GATES):
        packed.turn(gates, every)
        found = model(IDS)[0]
        for token, (first, second) in enumerate(gates.tolist()):
            expected = written(clean, packed.vectors, {"all": first, "some": second})(IDS)[0, token]
            torch.testing.assert_close(found[token], expected, rtol=1e-4, atol=1e-4)
    packed.turn(torch.zeros_like(GATES), every)
    assert hooks(model) == 0
    assert torch.equal(model(IDS), base)


@torch.no_grad()
def test_taken_out_the_model_is_the_base_and_can_be_turned_again(model: TokenModel) -> None:
    packed, base, every = Packed(model), model(IDS), torch.arange(TOKENS)
    packed.turn(GATES, every)
    first = model(IDS)
    for _ in range(2):
        packed.close()
        assert hooks(model) == 0
        assert torch.equal(model(IDS), base)
    packed.turn(GATES, every)
    assert torch.equal(model(IDS), first)
    assert not torch.equal(first, base)


@torch.no_grad()
def test_layers_that_read_one_tensor_share_a_product_of_which_nothing_is_kept_after_the_pass(model: TokenModel) -> None:
    packed = Packed(model)
    packed.turn(GATES, torch.arange(TOKENS))
    model(IDS)
    stacks = packed.both[0]._stacks
    tied = model.lm_head.weight is model.embed.weight
    assert list(stacks) == [("q_proj", "k_proj"), *([] if tied else [("lm_head",)])]
    assert all(stack.seen is None and not len(stack.pieces) for stack in stacks.values())
    nested = nn.ModuleDict({block: nn.ModuleDict({"attention": TokenModel(tied=False)}) for block in ("a", "b")})
    names = [f"{block}.attention.{name}" for block in nested for name in ("q_proj", "k_proj", "lm_head")]
    low = LowRankDelta(torch.ones(1, WIDTH), torch.ones(WIDTH, 1))
    head = LowRankDelta(torch.ones(1, WIDTH), torch.ones(WORDS, 1))
    deltas: dict[str, Delta] = {f"{name}.weight": head if name.endswith("head") else low for name in names}
    stacked = StackedLayers(nested, vector("all", deltas).parts)
    assert stacked._groups == [tuple(names[:2]), (names[2],), tuple(names[3:5]), (names[5],)]


@torch.no_grad()
def test_the_dtype_of_the_model_is_kept(model: TokenModel) -> None:
    model.to(torch.bfloat16)
    packed = Packed(model)
    packed.turn(GATES, torch.tensor([2, 4]))
    assert model(IDS, torch.tensor([2, 4])).dtype == torch.bfloat16
