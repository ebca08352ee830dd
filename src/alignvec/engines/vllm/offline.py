"""vLLM's offline batches with knobs: many chats at once, each at its own setting."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignvec.engines.vllm.compose import Composer, rounded
from alignvec.engines.vllm.gate import Gates
from alignvec.engines.vllm.plan import PLAN, XARG, Way
from alignvec.engines.vllm.plugin import register
from alignvec.engines.vllm.prepare import make_plan, on_cpu, require_vllm
from alignvec.errors import DataError, KnobError
from alignvec.steer.knobs import Knobs, check_knobs, format_knobs
from alignvec.steer.model import Continuation
from alignvec.steer.sampling import Sampling
from alignvec.vectors.store import load_vector


class OfflineEngine:
    """A base model on vLLM, and the vectors whose knobs can be turned on it.

    There can be one in a process: vLLM's processes are told of the vectors through the environment.

    Args:
        model: base model: `demo`, a folder or a hub id.
        vectors: folders of the vectors; none: the base alone.
        way: `gate` or `adapters`, see `Plan`.
        options: arguments of `vllm.LLM`, such as `dtype`, `max_model_len`, `tensor_parallel_size`.
        plan: other fields of `Plan`, such as `step`.

    Attributes:
        model: vLLM's `LLM`.

    Raises:
        ConfigError: if vLLM is not installed, the gate was not tested with this version, or this process has an
            engine with other vectors already.
        VectorError: see `make_plan`.
    """

    def __init__(
        self, model: str, vectors: Sequence[Path] = (), *, way: Way = "gate", options: Any = None, **plan: Any
    ) -> None:
        require_vllm()
        self._gates: Gates | None = None
        self._composer: Composer | None = None
        self._numbers: dict[str, int] = {}
        arguments = dict(options or {})
        if vectors:
            self._plan = made = make_plan(model, vectors, way, **plan)
            self._folder = tempfile.TemporaryDirectory(prefix="alignvec-")
            path = Path(self._folder.name) / "plan.json"
            path.write_text(made.model_dump_json(), encoding="utf-8")
            os.environ[PLAN] = str(path)
            register()
            if way == "gate":
                self._gates = Gates(made.slots)
            else:
                self._composer = Composer(made, [load_vector(place) for place in vectors])
            slots = 1 if way == "gate" else arguments.pop("max_loras", 4)
            arguments |= {"enable_lora": True, "max_loras": slots, "max_lora_rank": made.rank}
            arguments["lora_target_modules"] = list(made.targets)
            if way == "gate" and not on_cpu():
                arguments["enforce_eager"] = True
        from vllm import LLM

        from alignvec.models import resolve

        self.model: Any = LLM(model=str(resolve(model)), **arguments)

    def chat(
        self,
        chats: Sequence[Sequence[dict[str, str]]],
        knobs: Sequence[Knobs],
        sampling: Sampling | Sequence[Sampling],
    ) -> list[Continuation]:
        """The next assistant turn of every chat, each at its own setting.

        vLLM draws its random numbers by itself: at a temperature above 0 the replies are others than the
        transformers engine's. A repetition penalty counts the prompt too.

        Args:
            chats: turns with `role` and `content`.
            knobs: one setting for each chat, λ by name; nothing is cut to a usable range.
            sampling: how to decode; one for all, or one for each chat.

        Raises:
            KnobError: if a name is unknown, a coefficient is not finite, or there is not a setting for each chat.
            DataError: if vLLM refuses a chat, as one that is too long.
        """
        each = [sampling] * len(chats) if isinstance(sampling, Sampling) else sampling
        if not len(chats) == len(knobs) == len(each):
            raise KnobError(
                f"{len(knobs)} settings and {len(each)} samplings for {len(chats)} chats; give one for each"
            )
        params, requests = self.asked(knobs, [_parameters(one) for one in each])
        try:
            outputs = self.model.chat([list(chat) for chat in chats], params, lora_request=requests, use_tqdm=False)
        except ValueError as error:
            raise DataError(f"vLLM refuses a chat: {error}") from error
        for folder in self._composer.retire().values() if self._composer else ():
            shutil.rmtree(folder, ignore_errors=True)
        ends = [output.outputs[0] for output in outputs]
        return [Continuation(end.text.strip(), end.finish_reason == "stop", len(end.token_ids)) for end in ends]

    def asked(
        self, knobs: Sequence[Knobs], sampling: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Any], list[Any] | None]:
        """What `vllm.LLM.generate` and `chat` take for settings: sampling parameters, and adapters (None: none).

        Args:
            knobs: one setting for each prompt.
            sampling: arguments of `vllm.SamplingParams`, for each prompt.

        Raises:
            KnobError: if a name is unknown or a coefficient is not finite.
        """
        from vllm import SamplingParams

        texts = [self._text(setting) for setting in knobs]
        extra = [{"extra_args": {XARG: text}} if text and self._gates else {} for text in texts]
        params = [SamplingParams(**one, **more) for one, more in zip(sampling, extra, strict=True)]
        return params, [self._request(text) for text in texts] if self._composer else None

    def _text(self, knobs: Knobs) -> str:
        if self._gates is not None:
            return self._gates.read(format_knobs(knobs))
        check_knobs(knobs, [] if self._composer is None else self._composer.names)
        if self._composer is None:
            return ""
        step = self._plan.step
        turned = {name: rounded(value, step, float("-inf"), float("inf")) for name, value in knobs.items()}
        name = self._composer.name(turned)
        return "" if name == self._plan.model else name

    def _request(self, name: str) -> Any:
        from vllm.lora.request import LoRARequest

        if not name or self._composer is None:
            return None
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        return LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(self._composer.folder(name)))


def _parameters(sampling: Sampling) -> dict[str, Any]:
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        "max_tokens": sampling.max_new_tokens,
        "seed": sampling.seed,
    }
