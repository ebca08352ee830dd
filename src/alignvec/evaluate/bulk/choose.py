"""From what a user names (an engine, an endpoint, vectors, settings) to the plan of a run and who answers it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alignvec.data.teacher.batched import BatchedTeacher, BatchEngine, InProcess
from alignvec.data.teacher.endpoint import Endpoint
from alignvec.errors import ConfigError, KnobError
from alignvec.evaluate.bulk.endpoint import Served, ask_what_is_served, echo_check, named_model
from alignvec.evaluate.bulk.generate import Opened
from alignvec.evaluate.bulk.plan import AnsweredBy, Plan, PromptsUsed
from alignvec.evaluate.bulk.prompts import PromptFile
from alignvec.steer.knobs import Knobs, check_knobs, format_knobs, parse_knobs
from alignvec.steer.loading import load_knobbed, named_scales, vector_places
from alignvec.steer.sampling import Sampling
from alignvec.steer.scale import Scale

BATCH_SIZES = {"local": 16, "vllm": 1024}
"""Replies at once, if the user does not say: a padded batch, and what vLLM schedules by itself."""
OF_THIS_PROCESS = ("model", "vectors", "batch_size", "dtype", "device")
"""What an endpoint is not told; given with one, it would be passed over."""


@dataclass(frozen=True)
class Choice:
    """What a user says of who is to answer.

    Attributes:
        engine: None: `openai` if an endpoint is named, else `local`.
        endpoint_url: of `openai`.
        endpoint_model: name of the model there; None: what the endpoint says that it serves.
        model_template: how knobs are written into the model's name; None: they are sent in the body.
        key_variable: environment variable with the API key.
        in_flight: most requests at once.
        timeout: seconds one attempt may take.
        attempts: tries of a request that the endpoint fails.
        model: base model of `local` and `vllm`; None: `demo`.
        vectors: their vectors; None: the shipped ones.
        batch_size: replies at once; None: see `BATCH_SIZES`.
        dtype: of their weights; None: `float32`.
        device: torch device of `local`.
    """

    engine: Literal["local", "openai", "vllm"] | None = None
    endpoint_url: str | None = None
    endpoint_model: str | None = None
    model_template: str | None = None
    key_variable: str | None = "OPENAI_API_KEY"
    in_flight: int = 16
    timeout: float = 120.0
    attempts: int = 6
    model: str | None = None
    vectors: Sequence[Path] | None = None
    batch_size: int | None = None
    dtype: str | None = None
    device: str | None = None


def chosen(
    choice: Choice, prompts: PromptFile, settings: Sequence[str], sampling: Sampling, shard_size: int
) -> tuple[Plan, Opened]:
    """The plan of a run, and what makes whoever answers it; everything that can be refused is refused here.

    Args:
        choice: who is to answer.
        prompts: what is replied to.
        settings: knobs, as they are written on the command line.
        sampling: how replies are decoded.
        shard_size: prompts in a shard.

    Raises:
        ConfigError: if options do not go together.
        KnobError: if a setting cannot be read, names an unknown vector, or comes twice.
        TeacherError: if the endpoint cannot be reached.
        ModelError: if there is no such base model.
        VectorError: if there is no such vector.
    """
    engine = choice.engine or ("openai" if choice.endpoint_url else "local")
    if engine == "openai":
        by, scales, opened = _behind_an_endpoint(choice)
        known = scales if by.vectors else None
    else:
        if choice.endpoint_url or choice.endpoint_model or choice.model_template:
            raise ConfigError(f"--engine {engine} asks no endpoint; leave out --endpoint-* and --model-template")
        known = scales = named_scales(choice.vectors)
    read = [parse_knobs(text, scales=scales, router=None) for text in settings]
    for i, knobs in enumerate(read):
        if known is not None:
            check_knobs(knobs, known)
        if any(_turned(knobs) == _turned(other) for other in read[:i]):
            raise KnobError(f"the setting {format_knobs(knobs)} comes twice; give each once")
    if engine != "openai":
        by, opened = _in_this_process(choice, engine)
    plan = Plan(
        prompts=PromptsUsed(file=prompts.path.name, split=prompts.split, count=prompts.count, digest=prompts.digest),
        settings=tuple(read),
        answered_by=by,
        sampling=sampling,
        shard_size=shard_size,
    )
    return plan, opened


def _behind_an_endpoint(choice: Choice) -> tuple[AnsweredBy, dict[str, Scale], Opened]:
    from alignvec.data.teacher.client import Teacher

    if not choice.endpoint_url:
        raise ConfigError("--engine openai needs --endpoint-url, such as http://127.0.0.1:8000")
    if given := [name for name in OF_THIS_PROCESS if getattr(choice, name) is not None]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(
            f"{names}: of an engine in this process, not of an endpoint; leave out, or choose --engine local or vllm"
            + (" (the model's name there is --endpoint-model)" if "model" in given else "")
        )
    endpoint = Endpoint(
        choice.endpoint_url, choice.in_flight, choice.timeout, choice.attempts, choice.key_variable, role="endpoint"
    )
    endpoint.refuse_secret("--key-variable")
    served: Served = ask_what_is_served(endpoint)
    model = choice.endpoint_model or served.model
    if not model:
        raise ConfigError(f"{endpoint.shown} does not say what it serves; name the model with --endpoint-model")
    if choice.model_template:
        named_model(choice.model_template, model, {"any": 1.0})
    check = echo_check(endpoint, routed=served.routed)
    by = AnsweredBy(
        engine="openai",
        model=model,
        vectors=dict(served.digests),
        named=choice.model_template,
        routed=served.routed,
        turnable=served.turnable,
    )
    return by, dict(served.scales), lambda cache, budget: Teacher(endpoint, cache, budget, check=check)


def _in_this_process(choice: Choice, engine: Literal["local", "vllm"]) -> tuple[AnsweredBy, Opened]:
    from alignvec import models
    from alignvec.evaluate.bulk.in_process import ChatAnswers, LocalChats, vllm_answers
    from alignvec.vectors.fingerprint import fingerprint
    from alignvec.vectors.store import load_card

    model, dtype = choice.model or models.DEMO, choice.dtype or "float32"
    places = vector_places(choice.vectors)
    if engine == "vllm" and choice.device:
        raise ConfigError("--device is of the local engine; vLLM takes the devices that it finds")

    def start() -> BatchEngine:
        if engine == "vllm":
            return vllm_answers(model, list(places.values()), dtype=dtype)
        return ChatAnswers(LocalChats(load_knobbed(model, choice.vectors, dtype=dtype, device=choice.device)))

    place = InProcess(start, choice.batch_size or BATCH_SIZES[engine])
    by = AnsweredBy(
        engine=engine,
        model=model,
        dtype=dtype,
        base=fingerprint(models.resolve(model)),
        vectors={name: _files_digest(load_card(place).files) for name, place in places.items()},
    )
    return by, lambda cache, budget: BatchedTeacher(place, cache, budget)


def _turned(knobs: Knobs) -> Knobs:
    return {name: value for name, value in knobs.items() if value}


def _files_digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]
