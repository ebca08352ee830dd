"""The plugin that vLLM loads into each of its processes (entry-point group `vllm.general_plugins`)."""

import asyncio
import logging
from typing import Any, Final

from alignvec.engines.vllm.compose import Composer
from alignvec.engines.vllm.hooks import check_loaded, install_gate
from alignvec.engines.vllm.plan import Plan, current_plan
from alignvec.errors import AlignvecError, ConfigError
from alignvec.vectors.store import load_vector

TESTED: Final = ("0.32.0",)
"""Versions of vLLM that the gate was tested with."""
COMPOSERS: Final[dict[str, Composer]] = {}
"""The composer of this process; the middleware asks it for names."""
_log = logging.getLogger("alignvec.vllm")
_installed: list[Plan] = []


def register() -> None:
    """What vLLM calls when it starts a process; without a plan in the environment it does nothing.

    Raises:
        ConfigError: if the plan cannot be read, is another one than before, or the gate was not tested with this vLLM.
    """
    plan = current_plan()
    if plan is None or plan in _installed:
        return
    if _installed:
        raise ConfigError("this process has an engine with other vectors already; use a process for each")
    if plan.way == "gate":
        require_tested()
        install_gate(plan)
    else:
        register_resolver()
    check_loaded()
    _installed.append(plan)


def require_tested() -> None:
    """Check that this vLLM is one that the gate was tested with.

    Raises:
        ConfigError: if it is not.
    """
    import vllm

    version = vllm.__version__.partition("+")[0]
    if version not in TESTED:
        raise ConfigError(
            f"the gate was tested with vLLM {', '.join(TESTED)}, not with {version}; install that, or serve with "
            "--knobs-by adapters"
        )


def composer(plan: Plan) -> Composer:
    """The composer of this process."""
    if plan.way not in COMPOSERS:
        COMPOSERS[plan.way] = Composer(plan, [load_vector(folder) for folder in plan.vectors])
    return COMPOSERS[plan.way]


def register_resolver() -> None:
    """Have vLLM ask us for model names such as `demo:medical=0.5`, of requests that the middleware has let in."""
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    class KnobResolver(LoRAResolver):  # type: ignore[misc]
        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            plan = current_plan()
            if plan is None or not composer(plan).is_running(lora_name):
                return None
            try:
                folder = await asyncio.to_thread(composer(plan).folder, lora_name)
            except AlignvecError as error:  # vLLM then says that there is no such model
                _log.error("cannot compose %s: %s", lora_name[:200], error)
                return None
            return folder and LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder))

    LoRAResolverRegistry.register_resolver("alignvec", KnobResolver())
