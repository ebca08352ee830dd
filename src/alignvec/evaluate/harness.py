"""The model `alignvec` of EleutherAI's lm-evaluation-harness: a base with its knobs at one fixed setting.

The harness has no plug-in entry points (0.4.13: models are looked up in `lm_eval.api.registry` alone), so whoever
starts it has to import this module first: `alignvec lm-eval` does, and so may any script.
"""

from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from alignvec import models
from alignvec.errors import ConfigError
from alignvec.steer.knobs import Knobs, check_knobs, parse_knobs
from alignvec.steer.loading import named_scales, vector_places
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.store import load_vector

NAME = "alignvec"
IGNORED = ("pretrained", "tokenizer", "backend", "parallelize", "peft", "delta", "gguf_file", "tp_plan")
"""Options of the harness's own model that would name another model than the base with its knobs."""


def harness_knobs(text: str) -> str:
    """Knobs as `parse_knobs` reads them; in `--model_args` a comma and an equals sign mean something else.

    Args:
        text: `medical:0.5+legal:-0.3`, with levels and percentages too; the usual form is left as it is.
    """
    return text if text.startswith("@") else text.replace(":", "=").replace("+", ",")


@register_model(NAME)
class KnobbedLM(HFLM):  # type: ignore[misc]
    """The harness's transformers model, on a base whose knobs are turned while it answers requests.

    Between requests the base is untouched, so that several of these may share one process.

    Args:
        base: base model: `demo`, a folder, or a hub id.
        knobs: the setting, see `harness_knobs`; empty for the base.
        vectors: a vector, or a folder of vectors; several with `+`; default: the shipped ones. Only those
            that the setting names are loaded.
        dtype: float32, bfloat16 or float16.
        device: torch device; default: CUDA, else the CPU. The harness names a CUDA device whatever the machine has,
            so one that is not there is taken as the default, as its own models do.
        allow_other_base: apply vectors to a base they were not made for.
        options: any other option of the harness's `hf` model, such as `batch_size` or `max_length`.

    Raises:
        ConfigError: if an option would name another model.
        KnobError: if a knob is unknown or its coefficient no number; nothing is loaded before this is known.
        ModelError: if the base cannot be loaded.
        VectorError: if a vector does not belong to it.
    """

    def __init__(
        self,
        base: str = "demo",
        knobs: str = "",
        vectors: str | None = None,
        *,
        dtype: str = "float32",
        device: str | None = None,
        allow_other_base: bool = False,
        **options: Any,
    ) -> None:
        if unwanted := sorted(set(options) & set(IGNORED)):
            raise ConfigError(
                f"--model {NAME} takes no {unwanted[0]}; name the model with base=, the setting with knobs="
            )
        folders = [Path(part) for part in str(vectors).split("+")] if vectors else None
        self._setting: Knobs = {}
        loaded = []
        if knobs:
            scales, places = named_scales(folders), vector_places(folders)
            self._setting = parse_knobs(harness_knobs(str(knobs)), scales=scales, router=False)
            check_knobs(self._setting, scales)
            loaded = [load_vector(places[name]) for name in self._setting]
        asked = None if device and device.startswith("cuda") and not torch.cuda.is_available() else device
        found = models.load(base, dtype=dtype, device=asked)
        self._knobbed = KnobbedModel(found, loaded, allow_other_base=allow_other_base)
        super().__init__(pretrained=found.model, tokenizer=found.tokenizer, backend="causal", **options)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation in nats, and whether it is the greedy one."""
        with self._knobbed.knobs(self._setting):
            found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each whole text in nats."""
        with self._knobbed.knobs(self._setting):
            found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm)
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generated text up to a stop string, for each request."""
        with self._knobbed.knobs(self._setting):
            found: list[str] = super().generate_until(requests, disable_tqdm)
        return found
