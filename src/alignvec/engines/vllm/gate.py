"""A gate for every token inside one stacked adapter: y = W x + B((A x) ∘ g), any number of settings in one batch.

Functions of vLLM are replaced while it runs, see `hooks`: where a request enters (`entered`), where a step's adapters
are set (`Gates.set_rows`), and the product of a LoRA layer (`gated_product`). Knobs travel as the text of the
request's `extra_args`; from the entrance on as `base_model_name` of its `LoRARequest`, which both of vLLM's model
runners keep with the request. All requests name one adapter, so vLLM schedules them together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch

from alignvec.engines.stack import Slot, gate_row
from alignvec.errors import KnobError
from alignvec.steer.knobs import check_knobs, format_knobs, parse_knobs
from alignvec.steer.solved import names_setting

ADAPTER: Final = "alignvec"
ADAPTER_ID: Final = 1


class Gates:
    """The gates of the tokens of one step.

    Args:
        slots: of the stacked adapter.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = slots
        self.rank = slots[-1].stop
        self.tokens = 0
        self.any = False
        self._names = dict.fromkeys(slot.vector for slot in slots)
        self._rows: dict[str, torch.Tensor] = {"": torch.zeros(self.rank)}
        self._last: tuple[tuple[str, int], ...] = ()
        self._buffer: torch.Tensor | None = None

    def read(self, text: str) -> str:
        """The knobs that are turned, in one order; empty for none.

        Raises:
            KnobError: if they cannot be read, are not finite or name no vector.
        """
        if names_setting(text):
            raise KnobError(f"{text[:80]!r} names a file; give the knobs themselves, such as medical=0.5")
        knobs = parse_knobs(text)
        check_knobs(knobs, self._names)
        turned = {name: knobs[name] for name in self._names if knobs.get(name)}
        return format_knobs(turned) if turned else ""

    def set_rows(self, rows: Sequence[tuple[str, int]]) -> None:
        """Set the gates of a step.

        Args:
            rows: of each request in the batch's order, what `read` gave and its number of tokens in the step.
        """
        key = tuple(rows)
        self.tokens = sum(count for _, count in key)
        if key == self._last:
            return
        self._last, self.any = key, any(text for text, _ in key)
        self._fill()

    def clear(self, tokens: int) -> None:
        """Set all gates to zero, for a step without requests."""
        self.set_rows([("", tokens)])

    def of(self, x: torch.Tensor, size: int) -> torch.Tensor:
        """The gates of the tokens of x [tokens, in], as [tokens, rank] in its dtype; the buffer holds `size` tokens."""
        if self._buffer is None:
            self._buffer = torch.zeros(size, self.rank, dtype=x.dtype, device=x.device)
            self._fill()
        return self._buffer[: x.shape[0]]

    def _fill(self) -> None:
        if self._buffer is None or not self._last:
            return
        rows = torch.stack([self._row(text) for text, _ in self._last])
        counts = torch.tensor([count for _, count in self._last])
        gates = rows.repeat_interleave(counts, dim=0)
        self._buffer[: len(gates)].copy_(gates, non_blocking=True)

    def _row(self, text: str) -> torch.Tensor:
        if text not in self._rows:
            if len(self._rows) >= MOST_ROWS:
                self._rows = {"": self._rows[""]}
            self._rows[text] = torch.tensor(gate_row(self.slots, parse_knobs(text)))
        return self._rows[text]


MOST_ROWS: Final = 10_000
"""Settings whose gates are kept."""


class Factors(NamedTuple):
    """The stack's factors at one layer, as `gated_product` wants them.

    Attributes:
        a: [slices * rank, in]: what slices of a layer that is several in one read is the same input.
        b: of each slice, [rank, width].
    """

    a: torch.Tensor
    b: Sequence[torch.Tensor]


def factors(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor], rank: int) -> Factors:
    """A copy of what vLLM holds of a layer, without its padding.

    Args:
        a: of each slice, [adapters, 1, rank or more, in]; the first adapter is the stack.
        b: of each slice, [adapters, 1, width, rank or more].
        rank: of the stack.
    """
    return Factors(torch.cat([one[0, 0, :rank] for one in a]), [one[0, 0, :, :rank].T.contiguous() for one in b])


def gated_product(y: torch.Tensor, x: torch.Tensor, found: Factors, gates: torch.Tensor) -> None:
    """Add b((a x) ∘ gate) to y in place, slice by slice.

    Args:
        y: [tokens, Σ widths].
        x: [tokens, in].
        found: the layer's factors.
        gates: [tokens, rank].
    """
    pieces = torch.nn.functional.linear(x, found.a).view(len(x), len(found.b), -1) * gates[:, None]
    start = 0
    for index, factor in enumerate(found.b):
        y[:, start : start + factor.shape[1]].addmm_(pieces[:, index], factor)
        start += factor.shape[1]


def entered(gates: Gates, extra: Mapping[str, Any] | None, xarg: str) -> str | None:
    """The knobs that a request's `extra_args` name, as `Gates.read` writes them; None if it names none.

    Raises:
        KnobError: if they are no text, or see `Gates.read`.
    """
    text = (extra or {}).get(xarg)
    if text is None:
        return None
    if not isinstance(text, str):
        raise KnobError(f"{xarg} must be text such as medical=0.5,legal=-0.3, not {type(text).__name__}")
    return gates.read(text)
