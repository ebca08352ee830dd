"""Knobs on what low-rank factors cannot carry, with a gate for each row: norms, biases and embeddings.

A norm's output is linear in its weight and bias, a linear layer's in its bias, an embedding's in its rows; so the
change is the same module run with the delta in place of its parameters, times the row's gate.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from alignvec.steer.stacked import check_rows, output_head
from alignvec.vectors.delta import Delta, LowRankDelta
from alignvec.vectors.vector import AlignmentVector, Part, check_targets


@dataclass(frozen=True)
class Split:
    """Where the deltas of a part are applied.

    Attributes:
        stacked: low-rank deltas of linear layers, for `StackedLayers`.
        rowwise: deltas of norms, biases and embeddings, for `RowwiseModules`.
    """

    stacked: Part
    rowwise: Part


def split(model: nn.Module, vector: AlignmentVector) -> list[Split] | None:
    """The parts of a vector by how they are applied; None if it must be rebuilt into the weights.

    That is so where it changes a linear layer's weight by more than low-rank factors, a module of a kind that is not
    known to be linear in what changes, or a tensor that several modules share (but for a tied output head).
    """
    modules = dict(model.named_modules())
    inputs, head = _input_embedding(model), _tied_head(model)
    users = Counter(id(tensor) for module in modules.values() for tensor in module.parameters(recurse=False))
    found = []
    for part in vector.parts:
        stacked: dict[str, Delta] = {}
        rowwise: dict[str, Delta] = {}
        for name, delta in part.deltas.items():
            owner, _, leaf = name.rpartition(".")
            module = modules.get(owner)
            low = isinstance(delta, LowRankDelta)
            if users[id(getattr(module, leaf, None))] > (2 if module is inputs and head is not None else 1):
                return None
            if isinstance(module, nn.Linear) and leaf == "weight" and low and module is not head:
                stacked[name] = delta
            elif _is_linear_in(module, leaf):
                rowwise[name] = delta
            elif module is None and low:
                stacked[name] = delta  # which then says that the model has no such tensor
            else:
                return None
        found.append(Split(replace(part, deltas=stacked), replace(part, deltas=rowwise)))
    return found


class RowwiseModules:
    """Adds deltas of norms, biases and embeddings through forward hooks, with a gate for each row.

    Args:
        model: the base model; its modules and weights stay as they are.
        parts: parts with deltas of such modules alone, see `split`.

    Raises:
        VectorError: if a part names a tensor that the model lacks, or of another shape.
    """

    def __init__(self, model: nn.Module, parts: Sequence[Part]) -> None:
        weights = dict(model.named_parameters())
        for part in parts:
            check_targets(part.vector, part.deltas, weights)
        inputs, head = _input_embedding(model), _tied_head(model)
        self._changes: list[tuple[nn.Module, int, _Change]] = []
        self._inputs, self._head = inputs, output_head(model)
        self._handles: list[Any] = []
        for owner, module in model.named_modules():
            for index, part in enumerate(parts):
                own = {n.rpartition(".")[2]: d for n, d in part.deltas.items() if n.rpartition(".")[0] == owner}
                if not own:
                    continue
                self._changes.append((module, index, _change(module, own)))
                if isinstance(module, nn.Embedding) and module is inputs and head is not None:
                    self._changes.append((head, index, _head_change(module, own["weight"])))

    def turn(self, gates: torch.Tensor) -> None:
        """Set the gate, [rows, parts]; one row serves a batch of any size."""
        self.close()
        for module, index, change in self._changes:
            if gates[:, index].any():
                positions = isinstance(module, nn.Embedding) and module is not self._inputs
                hook = _hook(_beside(module, gates[:, index]), change, positions)
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def turn_packed(self, gates: torch.Tensor, kept: torch.Tensor) -> None:
        """Set the gate of a batch that has all its tokens in one row.

        Args:
            gates: [tokens, parts].
            kept: indices of the tokens whose hidden states the output head is given.
        """
        self.close()
        for module, index, change in self._changes:
            if gates[:, index].any():
                gate = _beside(module, gates[:, index])
                seen = _beside(module, gates[kept, index]) if module is self._head else None
                hook = _packed_hook(gate, seen, change)
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def close(self) -> None:
        """Take the hooks out; the model is as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


_Change: TypeAlias = Callable[..., torch.Tensor]
"""A module's arguments to what is added to its output at gate 1."""


def _hook(gate: torch.Tensor, change: _Change, positions: bool) -> Any:
    def add_change(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
        if not (positions and len(output) == 1):  # positions may be looked up once for all rows
            check_rows(len(gate), len(output))
        return output + change(*inputs, **named) * gate.to(output).view(-1, *[1] * (output.ndim - 1))

    return add_change


def _packed_hook(gate: torch.Tensor, seen: torch.Tensor | None, change: _Change) -> Any:
    def add_change(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
        column = seen if seen is not None and output.shape[1] == len(seen) else gate
        return output + change(*inputs, **named) * column.to(output).view(-1, *[1] * (output.ndim - 2))

    return add_change


def _beside(module: nn.Module, gate: torch.Tensor) -> torch.Tensor:
    """The gate on the module's device: copied there at each turn, not at each forward pass."""
    return gate.to(next(module.parameters()).device)


def _change(module: nn.Module, deltas: Mapping[str, Delta]) -> _Change:
    if isinstance(module, nn.Embedding):
        return _embedding_change(module, deltas["weight"])
    if isinstance(module, nn.Linear):
        bias = deltas["bias"].dense().to(module.weight)
        return lambda *_, **__: bias
    turned, zero = deepcopy(module), deepcopy(module)
    with torch.no_grad():
        for name, parameter in turned.named_parameters(recurse=False):
            parameter.copy_(deltas[name].dense() if name in deltas else torch.zeros_like(parameter))
        for parameter in zero.parameters(recurse=False):
            parameter.zero_()
    # a norm may multiply by 1 + weight: what it gives without any weight is not part of the change
    return lambda *x, **named: turned.forward(*x, **named) - zero.forward(*x, **named)


def _embedding_change(module: nn.Embedding, delta: Delta) -> _Change:
    if isinstance(delta, LowRankDelta):
        a, b = delta.a.to(module.weight), delta.b.to(module.weight)
        return lambda ids: functional.embedding(ids, b) @ a
    table = delta.dense().to(module.weight)
    return lambda ids: functional.embedding(ids, table)


def _head_change(embedding: nn.Embedding, delta: Delta) -> _Change:
    """The same change at an output head that shares the embedding's weight."""
    if isinstance(delta, LowRankDelta):
        a, b = delta.a.to(embedding.weight), delta.b.to(embedding.weight)
        return lambda hidden: functional.linear(functional.linear(hidden, a), b)
    table = delta.dense().to(embedding.weight)
    return lambda hidden: functional.linear(hidden, table)


def _tied_head(model: nn.Module) -> nn.Module | None:
    """The output head, if it shares its weight with the input embedding."""
    inputs, head = _input_embedding(model), output_head(model)
    return head if isinstance(head, nn.Linear) and inputs is not None and head.weight is inputs.weight else None


def _input_embedding(model: nn.Module) -> nn.Module | None:
    found: nn.Module | None = getattr(model, "get_input_embeddings", lambda: None)()
    return found


def _is_linear_in(module: nn.Module | None, leaf: str) -> bool:
    """Whether a module's output is known to be linear in its parameter `leaf`, and cheap to run again."""
    if type(module) is nn.Embedding:  # subclasses may scale what they look up
        return True
    if isinstance(module, nn.Linear):
        return leaf == "bias"
    tensor = getattr(module, leaf, None)
    # a head or an embedding that normalises its weight is called a norm too, and is not linear in its matrix
    is_norm = "norm" in type(module).__name__.lower() and isinstance(tensor, nn.Parameter) and tensor.ndim == 1
    return is_norm and leaf in ("weight", "bias")
