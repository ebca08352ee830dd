"""The plugin that vLLM loads into each of its processes (entry-point group `vllm.general_plugins`)."""

import asyncio
from functools import wraps
from typing import Any, Final

from alignvec.engines.vllm.compose import Composer
from alignvec.engines.vllm.gate import ADAPTER, ADAPTER_ID, Gates, entered, gated_product
from alignvec.engines.vllm.plan import XARG, Plan, current_plan
from alignvec.errors import AlignvecError, ConfigError
from alignvec.vectors.store import load_vector

TESTED: Final = ("0.32.0",)
"""Versions of vLLM that the gate was tested with."""
_done: set[str] = set()
COMPOSERS: Final[dict[str, Composer]] = {}
"""The composer of this process, by its plan's way; the middleware asks it for names."""


def register() -> None:
    """What vLLM calls when it starts a process; without a plan in the environment it does nothing.

    Raises:
        ConfigError: if the plan cannot be read, or the gate was not tested with this vLLM.
    """
    plan = current_plan()
    if plan is None or plan.way in _done:
        return
    if plan.way == "gate":
        install_gate(plan)
    else:
        register_resolver()
    _done.add(plan.way)


def composer(plan: Plan) -> Composer:
    """The composer of this process."""
    if plan.way not in COMPOSERS:
        COMPOSERS[plan.way] = Composer(plan, [load_vector(folder) for folder in plan.vectors])
    return COMPOSERS[plan.way]


def register_resolver() -> None:
    """Have vLLM ask us for model names such as `demo:medical=0.5`."""
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    class KnobResolver(LoRAResolver):  # type: ignore[misc]
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            plan = current_plan()
            if plan is None:
                return None
            try:
                folder = await asyncio.to_thread(composer(plan).folder, lora_name)
            except AlignvecError:  # the middleware has told the client why; a name that passes it by is unknown
                return None
            return folder and LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder))

    LoRAResolverRegistry.register_resolver("alignvec", KnobResolver())


def install_gate(plan: Plan) -> None:
    """Replace the three places of vLLM that `gate` tells of.

    Raises:
        ConfigError: if this vLLM is not one that it was tested with.
    """
    import vllm

    version = vllm.__version__.partition("+")[0]
    if version not in TESTED:
        raise ConfigError(
            f"the gate was tested with vLLM {', '.join(TESTED)}, not with {version}; install that, or serve with "
            "--knobs-by adapters"
        )
    gates = Gates(plan.slots)
    _replace_entrance(gates, str(plan.cache))
    _replace_steps(gates)
    _replace_products(gates)


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
        ours = request is not None and request.lora_int_id == ADAPTER_ID and request.base_model_name
        return str(request.base_model_name) if ours else ""

    @wraps(first)
    def set_active_loras(self: Any, input_batch: Any, num_scheduled_tokens: Any, *rest: Any, **named: Any) -> Any:
        requests = [self.requests[name].lora_request for name in input_batch.req_ids]
        gates.set_rows([(knobs(r), int(n)) for r, n in zip(requests, num_scheduled_tokens, strict=True)])
        waiting[0] = True
        return first(self, input_batch, num_scheduled_tokens, *rest, **named)

    @wraps(second)
    def make_lora_inputs(self: Any, req_ids: Any, idx_mapping: Any, num_scheduled_tokens: Any) -> Any:
        requests = [self.lora_requests.get(name) for name in req_ids]
        gates.set_rows([(knobs(r), int(n)) for r, n in zip(requests, num_scheduled_tokens, strict=True)])
        waiting[0] = True
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

    def add_lora_linear(
        self: Any, y: Any, x: Any, lora_a_stacked: Any, lora_b_stacked: Any, scale: float, output_slices: Any, **_: Any
    ) -> None:
        if x.device.type == "cpu" and not gates.any:  # a recorded graph could not choose
            return
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        own = gates.of(x, self._token_lora_indices.shape[0])
        gated_product(y, x, lora_a_stacked, lora_b_stacked, output_slices, own)

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise RuntimeError("alignvec: the gate has no product for this kind of layer; serve with --knobs-by adapters")

    for wrapper in (PunicaWrapperCPU, PunicaWrapperGPU):
        wrapper.add_lora_linear = add_lora_linear
        wrapper.add_shrink = wrapper.add_expand = refuse  # of fully sharded adapters
        for name in ("add_lora_fused_moe", "add_lora_w13", "add_lora_w2"):
            if hasattr(PunicaWrapperBase, name):
                setattr(wrapper, name, refuse)
