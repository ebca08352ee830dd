"""Stacked low-rank layers: y = W x + B((A x) ∘ g), one gate row for each row of the batch.

The factors of all active parts are stacked per linear layer, so two skinny products serve every vector and each row
may have knobs of its own. The base weights are never touched; with no active part the layers are not touched either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from alignvec.errors import KnobError, VectorError
from alignvec.vectors.delta import LowRankDelta
from alignvec.vectors.vector import Part, check_targets


@dataclass
class _Stack:
    """Stacked factors of the layers that read the same input.

    Attributes:
        a: [R, in], the factors of all these layers.
        b: one [R_layer, out] a layer.
        columns: the active part that each of the R rows of `a` belongs to.
        gate: [rows, 1, R], or [1, tokens, R] for a packed row.
        kept: [1, kept, R], that of the tokens that the output head sees in a packed row; None for other layers.
        seen: the input that `pieces` was computed from; held until the last layer has used it.
        pieces: (A x) ∘ g, one [tokens, R_layer] a layer.
        left: layers that have yet to use `pieces`.
    """

    a: torch.Tensor
    b: list[torch.Tensor]
    columns: tuple[int, ...]
    gate: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    seen: torch.Tensor | None = None
    pieces: Sequence[torch.Tensor] = ()
    left: int = 0


class StackedLayers:
    """Adds low-rank parts to the linear layers of a model through forward hooks.

    Args:
        model: the base model; its modules and weights stay as they are.
        parts: low-rank parts that may be turned.

    Raises:
        VectorError: if a part names a weight that is not a linear layer's, or of another shape.
    """

    def __init__(self, model: nn.Module, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self._layers = _linear_layers(model, parts)
        self._groups = _groups_by_input(list(self._layers))
        self._head = output_head(model)
        self._active: tuple[int, ...] = ()
        self._stacks: dict[tuple[str, ...], _Stack] = {}
        self._handles: list[Any] = []

    def turn(self, gates: torch.Tensor) -> None:
        """Set the gate.

        Args:
            gates: [rows, parts]; one row serves a batch of any size, several need a batch of just as many rows.
        """
        active = _columns(gates)
        self._activate(active)
        self._set(gates[:, list(active)].unsqueeze(1))

    def turn_packed(self, gates: torch.Tensor, kept: torch.Tensor) -> None:
        """Set the gate of a batch that has all its tokens in one row.

        A part that was turned before stays stacked, at zero, until no part is turned at all: requests come and go at
        every step, and stacking anew costs more than a product with a few rows more.

        Args:
            gates: [tokens, parts].
            kept: indices of the tokens whose hidden states the output head is given.
        """
        needed = _columns(gates)
        active = tuple(sorted({*self._active, *needed})) if needed else ()
        self._activate(active)
        self._set(gates[:, list(active)].unsqueeze(0), kept)

    def close(self) -> None:
        """Take the hooks out; the model is as it was."""
        self._detach()
        self._active, self._stacks = (), {}

    def _activate(self, active: tuple[int, ...]) -> None:
        """Have hooks for these parts, and for no others; the stacks stay while the same parts are turned again."""
        if active != self._active or not active:
            self._detach()
        if active and active != self._active:
            stacks = {names: self._stack(names, active) for names in self._groups if self._touches(names, active)}
            self._active, self._stacks = active, stacks
        if active and not self._handles:
            self._attach()

    def _set(self, gates: torch.Tensor, kept: torch.Tensor | None = None) -> None:
        if not gates.shape[-1]:
            return
        spread = _Spread(gates)
        seen = None if kept is None else _Spread(gates[:, kept])
        for names, stack in self._stacks.items():
            stack.gate = spread.over(stack)
            stack.kept = seen.over(stack) if seen and self._layers[names[0]] is self._head else None
            stack.seen, stack.pieces = None, ()

    def _stack(self, names: Sequence[str], active: Sequence[int]) -> _Stack:
        a: list[torch.Tensor] = []
        b: list[torch.Tensor] = []
        columns: list[int] = []
        for name in names:
            layer = self._layers[name]
            found = [(i, self._parts[p].deltas.get(f"{name}.weight")) for i, p in enumerate(active)]
            deltas = [(i, d) for i, d in found if isinstance(d, LowRankDelta)]
            like = layer.weight
            a += [d.a.to(like) for _, d in deltas]
            b.append(torch.cat([d.b.to(like) for _, d in deltas] or [like.new_zeros((0, 0))], dim=1).T.contiguous())
            columns += [i for i, d in deltas for _ in range(d.rank)]
        return _Stack(torch.cat(a), b, tuple(columns))

    def _touches(self, names: Sequence[str], active: Sequence[int]) -> bool:
        return any(f"{name}.weight" in self._parts[p].deltas for name in names for p in active)

    def _attach(self) -> None:
        for names, stack in self._stacks.items():
            for index, name in enumerate(names):
                if stack.b[index].shape[0]:
                    self._handles.append(self._layers[name].register_forward_hook(_hook(stack, index)))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _Spread:
    """Gates of parts spread over the rows of a stack's factors; layers that are alike share one tensor.

    There are hundreds of layers and a turn at every step of a served batch: on a GPU each copy there is a wait. That
    wait is needed once: it is also for the factors, where an engine computes on a stream of its own.
    """

    def __init__(self, gates: torch.Tensor) -> None:
        self._gates = gates
        self._found: dict[tuple[tuple[int, ...], torch.device, torch.dtype], torch.Tensor] = {}

    def over(self, stack: _Stack) -> torch.Tensor:
        """Where the stack is, in its dtype."""
        key = (stack.columns, stack.a.device, stack.a.dtype)
        if key not in self._found:
            self._found[key] = self._gates[..., list(stack.columns)].to(stack.a)
        return self._found[key]


def _hook(stack: _Stack, index: int) -> Any:
    widths = [factor.shape[0] for factor in stack.b]
    users = sum(1 for width in widths if width)
    b = stack.b[index]

    def add_side_path(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        if stack.seen is not x:  # the first layer of the group to see this input computes A x for all of them
            assert stack.gate is not None
            gate = stack.gate
            check_rows(gate.shape[0], x.shape[0])
            if stack.kept is not None and x.shape[1] == stack.kept.shape[1]:
                gate = stack.kept
            gated = functional.linear(x, stack.a) * gate
            stack.pieces = torch.split(gated.view(-1, gated.shape[-1]), widths, dim=1)
            stack.seen, stack.left = x, users
        side = stack.pieces[index]
        stack.left -= 1
        if not stack.left:
            stack.seen, stack.pieces = None, ()
        if torch.is_grad_enabled():
            return output + (side @ b).view_as(output)
        output.view(-1, output.shape[-1]).addmm_(side, b)
        return output

    return add_side_path


def output_head(model: nn.Module) -> nn.Module | None:
    """The layer that gives the logits; None if the model names none."""
    found: nn.Module | None = getattr(model, "get_output_embeddings", lambda: None)()
    return found


def _columns(gates: torch.Tensor) -> tuple[int, ...]:
    """Parts that some row turns."""
    return tuple(int(i) for i in gates.any(dim=0).nonzero().flatten())


def check_rows(settings: int, rows: int) -> None:
    """Check that there is one setting for all rows of a batch, or one for each.

    Raises:
        KnobError: if not.
    """
    if settings not in (1, rows):
        raise KnobError(f"{settings} knob settings for a batch of {rows} rows; give one setting, or one for each row")


def _linear_layers(model: nn.Module, parts: Sequence[Part]) -> dict[str, nn.Linear]:
    weights = dict(model.named_parameters())
    wanted: dict[str, None] = {}
    for part in parts:
        check_targets(part.vector, part.deltas, weights)
        wanted |= {name.removesuffix(".weight"): None for name in part.deltas}
    modules: Mapping[str, nn.Module] = dict(model.named_modules())
    layers: dict[str, nn.Linear] = {}
    for name, module in modules.items():  # in the model's own order, so that siblings stay together
        if name in wanted:
            if not isinstance(module, nn.Linear):
                raise VectorError(f"{name} is a {type(module).__name__}, not a linear layer; use a dense vector for it")
            layers[name] = module
    return layers


_SHARED_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def _groups_by_input(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Layers that read the same tensor, by the names that Llama-like models give them; others stand alone.

    Only speed depends on it: a layer that sees another input than its group's computes A x anew.
    """
    groups: dict[tuple[str, object], list[str]] = {}
    for name in names:
        parent, _, leaf = name.rpartition(".")
        kind = next((i for i, family in enumerate(_SHARED_INPUT) if leaf in family), leaf)
        groups.setdefault((parent, kind), []).append(name)
    return [tuple(group) for group in groups.values()]
