"""What is replaced in vLLM while it runs; each hook fails rather than leaves knobs out."""

from functools import wraps
from pathlib import Path
from typing import Any, Final

import torch

from alignvec.engines.vllm.gate import ADAPTER, ADAPTER_ID, Factors, Gates, entered, factors, gated_product
from alignvec.engines.vllm.plan import XARG, Plan
from alignvec.errors import AlignvecError

GATED: Final = "gated"
"""What a stacked adapter's path ends with in requests: no such folder is there, so that only a worker with these hooks
can load it. Any other would add all parts, at full strength."""


def install_gate(plan: Plan) -> None:
    """Replace what `gate` tells of."""
    gates = Gates(plan.slots)
    _replace_entrance(gates, str(plan.cache / GATED))
    _replace_loading(plan.cache)
    _replace_steps(gates)
    _replace_products(gates)


def check_loaded() -> None:
    """Have vLLM refuse an adapter with tensors for layers that it would leave out silently."""
    from vllm.distributed import get_pp_group
    from vllm.lora.worker_manager import WorkerLoRAManager

    original = WorkerLoRAManager._load_adapter

    @wraps(original)
    def _load_adapter(self: Any, lora_request: Any) -> Any:
        lora, manager = original(self, lora_request), self._adapter_manager
        known = {
            f"{prefix}{dot}{part}"
            for prefix, dot, leaf in (name.rpartition(".") for name in manager.modules)
            for part in manager.packed_modules_mapping.get(leaf, [leaf])
        }
        lost = sorted(lora.loras.keys() - known)
        if lost and get_pp_group().world_size == 1:  # with several stages each has its own layers
            raise ValueError(f"alignvec: vLLM has no adapter layer for {lost[0]} and {len(lost) - 1} others")
        return lora

    WorkerLoRAManager._load_adapter = _load_adapter


def _replace_entrance(gates: Gates, adapter: str) -> None:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.input_processor import InputProcessor

    original = InputProcessor.process_inputs

    @wraps(original)
    def process_inputs(self: Any, request_id: str, prompt: Any, params: Any, *rest: Any, **named: Any) -> Any:
        try:
            text = entered(gates, getattr(params, "extra_args", None), XARG)
        except AlignvecError as error:
            raise ValueError(str(error)) from None  # which vLLM answers with 400
        if not text:
            return original(self, request_id, prompt, params, *rest, **named)
        named["lora_request"] = LoRARequest(
            lora_name=ADAPTER, lora_int_id=ADAPTER_ID, lora_path=adapter, base_model_name=text
        )
        request = original(self, request_id, prompt, params, *rest, **named)
        # The adapter is one for all settings, so its name does not keep their cached prefixes apart.
        request.cache_salt = f"{text};{request.cache_salt or ''}"
        return request

    InputProcessor.process_inputs = process_inputs


def _replace_loading(folder: Path) -> None:
    from vllm.lora.request import LoRARequest
    from vllm.lora.worker_manager import WorkerLoRAManager

    original = WorkerLoRAManager._load_adapter

    @wraps(original)
    def _load_adapter(self: Any, lora_request: Any) -> Any:
        if lora_request.lora_path == str(folder / GATED):
            lora_request = LoRARequest(ADAPTER, lora_request.lora_int_id, str(folder))
        return original(self, lora_request)

    WorkerLoRAManager._load_adapter = _load_adapter


def _replace_steps(gates: Gates) -> None:
    from vllm.v1.worker.gpu.lora_utils import LoraState
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

    first, second, setting = (
        LoRAModelRunnerMixin.set_active_loras,
        LoraState.make_lora_inputs,
        LoRAModelRunnerMixin._set_active_loras,
    )
    waiting = [False]

    def knobs(request: Any) -> str:
        ours = request is not None and request.lora_name == ADAPTER and request.base_model_name
        return str(request.base_model_name) if ours else ""

    def set_rows(requests: list[Any], counts: Any) -> None:
        gates.set_rows([(knobs(request), int(n)) for request, n in zip(requests, counts, strict=True)])
        waiting[0] = True

    @wraps(first)
    def set_active_loras(self: Any, input_batch: Any, num_scheduled_tokens: Any, *rest: Any, **named: Any) -> Any:
        set_rows([self.requests[name].lora_request for name in input_batch.req_ids], num_scheduled_tokens)
        return first(self, input_batch, num_scheduled_tokens, *rest, **named)

    @wraps(second)
    def make_lora_inputs(self: Any, req_ids: Any, idx_mapping: Any, num_scheduled_tokens: Any) -> Any:
        set_rows([self.lora_requests.get(name) for name in req_ids], num_scheduled_tokens)
        return second(self, req_ids, idx_mapping, num_scheduled_tokens)

    @wraps(setting)
    def _set_active_loras(
        self: Any, prompt_lora_mapping: Any, token_lora_mapping: Any, lora_requests: Any, *rest: Any, **named: Any
    ) -> Any:
        tokens = len(token_lora_mapping)
        if not waiting[0]:
            if any(knobs(request) for request in lora_requests):
                raise RuntimeError("alignvec: this model runner of vLLM does not tell which tokens are whose")
            gates.clear(tokens)  # a warm-up
        elif gates.tokens != tokens:
            raise RuntimeError(f"alignvec: gates for {gates.tokens} tokens in a step of {tokens}")
        waiting[0] = False
        return setting(self, prompt_lora_mapping, token_lora_mapping, lora_requests, *rest, **named)

    LoRAModelRunnerMixin.set_active_loras = set_active_loras
    LoraState.make_lora_inputs = make_lora_inputs
    LoRAModelRunnerMixin._set_active_loras = _set_active_loras


def _replace_products(gates: Gates) -> None:
    from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
    from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU

    start = PunicaWrapperBase.__init__
    copies: dict[int, Factors] = {}

    @wraps(start)
    def __init__(self: Any, max_num_batched_tokens: int, *rest: Any, **named: Any) -> None:
        if type(self) not in (PunicaWrapperCPU, PunicaWrapperGPU):
            raise RuntimeError(
                f"alignvec: the gate does not know {type(self).__name__}; serve with --knobs-by adapters"
            )
        start(self, max_num_batched_tokens, *rest, **named)

    def add_lora_linear(
        self: Any, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, output_slices: Any, **_: Any
    ) -> None:
        # Compiled and recorded, the gate was never tried; a compiled graph may also be another server's, from a cache.
        if torch.compiler.is_compiling() or (x.is_cuda and torch.cuda.is_current_stream_capturing()):
            raise RuntimeError("alignvec: the gate was not tested in compiled graphs; start with --enforce-eager")
        if not gates.any:
            return
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        key = lora_a_stacked[0].data_ptr()
        if key not in copies:  # the stack is loaded by now, and no other adapter ever takes its place
            copies[key] = factors(lora_a_stacked, lora_b_stacked, gates.rank)
        gated_product(y, x, copies[key], gates.of(x, self._token_lora_indices.shape[0]))

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise RuntimeError("alignvec: the gate has no product for this kind of layer; serve with --knobs-by adapters")

    PunicaWrapperBase.__init__ = __init__
    for wrapper in (PunicaWrapperCPU, PunicaWrapperGPU):
        wrapper.add_lora_linear = add_lora_linear
        wrapper.add_shrink = wrapper.add_expand = refuse  # of fully sharded adapters
        for name in ("add_lora_fused_moe", "add_lora_w13", "add_lora_w2"):
            if hasattr(PunicaWrapperBase, name):
                setattr(wrapper, name, refuse)
