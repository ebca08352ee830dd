"""What is replaced in vLLM, without a model: gates of either model runner, and refusals."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from alignvec.engines.stack import Slot
from alignvec.engines.vllm import hooks
from alignvec.engines.vllm.gate import ADAPTER, Gates

SLOTS = [Slot(vector="medical", sign=1, start=0, stop=2), Slot(vector="legal", sign=0, start=2, stop=3)]


@pytest.fixture
def gates() -> Iterator[Gates]:
    """Gates that vLLM's runners set; vLLM is as it was afterwards."""
    from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
    from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU
    from vllm.v1.worker.gpu.lora_utils import LoraState
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

    kinds = (LoraState, LoRAModelRunnerMixin, PunicaWrapperBase, PunicaWrapperCPU, PunicaWrapperGPU)
    before = [dict(vars(kind)) for kind in kinds]
    own = Gates(SLOTS)
    hooks._replace_steps(own)
    hooks._replace_products(own)
    yield own
    for kind, members in zip(kinds, before, strict=True):
        for name in set(vars(kind)) - set(members):
            delattr(kind, name)
        for name, value in members.items():
            if getattr(kind, name, None) is not value and callable(value):
                setattr(kind, name, value)


def request(knobs: str | None, name: str = ADAPTER) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, 1, "/gated", base_model_name=knobs)


def runner() -> Any:
    """A runner that keeps what its adapters are set to."""
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

    found = LoRAModelRunnerMixin()
    found.lora_manager = SimpleNamespace(set_active_adapters=lambda *_: None)
    return found


def test_the_newer_runner_tells_which_tokens_are_whose(gates: Gates) -> None:
    from vllm.v1.worker.gpu.lora_utils import LoraState

    state = LoraState(8)
    for index, (name, knobs) in enumerate({"a": "medical=0.5", "b": None, "c": "legal=-1"}.items()):
        state.add_request(name, index, request(knobs) if knobs else None)
    order = ["c", "a", "b"]
    inputs = state.make_lora_inputs(order, np.array([2, 0, 1]), np.array([1, 2, 3]))
    assert inputs[1] == (1, 1, 1, 0, 0, 0)
    runner()._set_active_loras(*inputs)
    rows = gates.of(torch.zeros(6, 4), 8)
    assert rows.tolist() == [[0, 0, -1], [0.5, 0.5, 0], [0.5, 0.5, 0], *[[0, 0, 0]] * 3]


def test_a_step_whose_tokens_were_not_told_fails(gates: Gates) -> None:
    with pytest.raises(RuntimeError, match="does not tell which tokens"):
        runner()._set_active_loras((1,), (1, 1), {request("medical=1")})
    runner()._set_active_loras((1,), (1, 1), {request(None, "warmup_1")})
    assert not gates.any and gates.tokens == 2
    gates.set_rows([("medical=1", 5)])
    gates.tokens = 4
    from vllm.v1.worker.gpu.lora_utils import LoraState

    state = LoraState(8)
    inputs = state.make_lora_inputs([], np.array([], dtype=int), np.array([], dtype=int))
    with pytest.raises(RuntimeError, match="gates for 0 tokens in a step of 1"):
        runner()._set_active_loras((0,), (0,), inputs[2])


def test_another_adapter_under_our_number_has_no_gate(gates: Gates) -> None:
    from vllm.v1.worker.gpu.lora_utils import LoraState

    state = LoraState(8)
    state.add_request("a", 0, request("medical=1", "other"))
    state.make_lora_inputs(["a"], np.array([0]), np.array([2]))
    assert not gates.any


def test_the_product_is_gated_and_other_kinds_of_layers_are_refused(gates: Gates) -> None:
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    wrapper = PunicaWrapperCPU(8, 4, "cpu")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(1, 1, 8, 4, generator=generator), torch.randn(1, 1, 6, 8, generator=generator)
    x, y = torch.randn(2, 4, generator=generator), torch.randn(2, 6, generator=generator)
    gates.set_rows([("medical=0.5", 1), ("", 1)])
    found = y.clone()
    wrapper.add_lora_linear(found, x, (a,), (b,), 1.0, (6,))
    torch.testing.assert_close(found[0], y[0] + 0.5 * b[0, 0, :, :2] @ (a[0, 0, :2] @ x[0]))
    assert torch.equal(found[1], y[1])
    for name in ("add_shrink", "add_expand", "add_lora_fused_moe"):
        with pytest.raises(RuntimeError, match="no product for this kind of layer"):
            getattr(wrapper, name)(y, x, (a,), 1.0)


def test_a_compiled_graph_is_refused(gates: Gates) -> None:
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    wrapper = PunicaWrapperCPU(8, 4, "cpu")
    gates.set_rows([("medical=0.5", 2)])

    @torch.compile(backend="eager", fullgraph=True)
    def forward(x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(2, 6)
        wrapper.add_lora_linear(y, x, (torch.ones(1, 1, 8, 4),), (torch.ones(1, 1, 6, 8),), 1.0, (6,))
        return y

    with pytest.raises(Exception, match="compiled graphs"):
        forward(torch.ones(2, 4))
