"""transformers' continuous batching with knobs, sampling and failures that belong to one request each."""

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList
from transformers.generation.continuous_batching import cb_logits_processors, continuous_api
from transformers.generation.continuous_batching.requests import GenerationOutput

from alignvec.serve.engine.attention import PACKED, register
from alignvec.serve.engine.loaded import PackedKnobs
from alignvec.serve.engine.row import Row


class RowProcessors(cb_logits_processors.ContinuousBatchingLogitsProcessorList):
    """Stands where transformers keeps per-request processors: it is told every batch's requests before the forward
    pass, which is when knobs are turned, and given their logits after it, which is when tokens are sampled."""

    def __init__(self, knobs: PackedKnobs) -> None:
        super().__init__(LogitsProcessorList())
        self.do_processing = True
        self._knobs = knobs
        self._sampled: list[Row] = []

    def check_kwargs(self, kwargs: dict[str, Any]) -> None:
        """Requests carry their row, which needs no checking."""

    def prepare_tensor_args(self, requests_in_batch: Sequence[Any], arg_storage: torch.Tensor) -> torch.Tensor:
        """Turn the knobs for the batch that is about to run."""
        rows, kept, end = [], [], 0
        self._sampled = []
        for request in requests_in_batch:
            row: Row = request.state.logit_processor_kwargs["row"]
            rows.append((row.loaded, row.gates, request.query_length))
            end += request.query_length
            if request.has_new_token:
                kept.append(end - 1)
                self._sampled.append(row)
        kept += [0] * (len(rows) - len(kept))  # transformers asks for the logits of as many tokens as requests
        self._knobs.turn(rows, kept)
        return arg_storage

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, logits_processor_args: torch.Tensor
    ) -> torch.Tensor:
        """Scores whose largest entry is the row's token, [requests, vocabulary]; requests that are still reading their
        prompt have no row, and what stands behind the last row is not looked at."""
        for i, row in enumerate(self._sampled):
            row.choose(scores[i])
        return scores


class Router(continuous_api.OutputRouter):
    """Hands every row its tokens; what comes for a row that is gone is dropped instead of piling up."""

    def deliver_batch(self, outputs: Sequence[GenerationOutput]) -> None:
        """Deliver what one batch produced."""
        for output in outputs:
            self.deliver(output)

    def deliver(self, output: GenerationOutput) -> None:
        """Deliver one output on its row's event loop."""
        with self._lock:
            entry = self.result_handlers.get(output.request_id)
        if entry is not None:
            callback, loop = entry
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(callback, output)


class Batching(continuous_api.ContinuousBatchingManager):
    """The manager of continuous batching; a batch that fails takes its own requests with it, and no others."""

    def __init__(self, model: Any, knobs: PackedKnobs, generation: Any, config: Any) -> None:
        super().__init__(model=model, generation_config=generation, continuous_batching_config=config)
        self.logit_processor = RowProcessors(knobs)
        self.output_router = Router()

    def switch_to_cb_friendly_attn(self, model: Any, auto_switch_to_flash: bool = True) -> None:
        """On the CPU use our attention; elsewhere what transformers chooses."""
        if model.device.type != "cpu":
            super().switch_to_cb_friendly_attn(model, auto_switch_to_flash)
            return
        register()
        self._original_attn_impl = model.config._attn_implementation
        model.set_attn_implementation(PACKED)

    def start(self) -> None:
        """Start generating, in a thread that does not keep a process alive."""
        self.background_thread_status.clear()
        thread = threading.Thread(target=self._run_generation_loop, name="generation", daemon=True)
        self._generation_thread = thread  # type: ignore[assignment]
        thread.start()

    def _generation_loop_body(self, batch_processor: Any, bootstrapping: bool) -> bool:
        try:
            return bool(super()._generation_loop_body(batch_processor, bootstrapping))
        except Exception as error:
            _fail_batch(batch_processor, error)
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            return True


def _fail_batch(processor: Any, error: Exception) -> None:
    """Fail the requests of the batch that raised, or all that are there if it is not known which those are."""
    scheduler = processor.scheduler
    batch = [future.state for future in processor.inputs_and_outputs.requests_in_batch]
    running = list(scheduler.active_requests.values())
    failed = [state for state in batch if state in running] or running
    for state in failed:
        processor._handle_request_error(error, state)
        scheduler.finish_request(state.request_id)
    if not failed:
        processor.fail_all_requests(error)
    scheduler._requests_to_fork.clear()
    scheduler.block_new_requests = False
