"""`alignvec serve`: one model for many audiences, over HTTP."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from alignvec.cli.common import DeviceOption, DtypeOption, ModelOption, OtherBaseOption, VectorsOption, vector_places
from alignvec.cli.serve_vllm import serve_vllm


def serve(
    context_: typer.Context,
    engine: Annotated[
        Literal["transformers", "vllm"],
        typer.Option("--engine", help="vllm: vLLM's own server; its options may follow after --"),
    ] = "transformers",
    model: ModelOption = "demo",
    vectors: VectorsOption = None,
    no_vectors: Annotated[bool, typer.Option("--no-vectors", help="serve the base alone, to compare with")] = False,
    host: Annotated[str, typer.Option("--host", help="address to bind to; any but loopback needs --policy")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="port to bind to; 0 takes a free one")] = 8000,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="policy.yaml: API keys and what they may do; default: loopback only")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="append one JSON line per request: who used which knobs when")
    ] = None,
    audit_prompts: Annotated[
        bool, typer.Option("--audit-prompts", help="keep the text of prompts and replies in the audit log")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="refuse knobs outside the usable range instead of cutting them")
    ] = False,
    router: Annotated[
        Path | None,
        typer.Option("--router", help="folder of a router: each knob counts as far as a prompt is its domain's"),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="settings.yaml of alignvec solve: requests may name its goals")
    ] = None,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="requests generated at the same time")] = 16,
    queue: Annotated[
        int, typer.Option("--queue", min=0, help="requests that may wait; the next is answered with 429")
    ] = 64,
    context: Annotated[
        int | None,
        typer.Option("--context", min=16, help="tokens of prompt and reply; default: the model's, up to 2048"),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="seconds a request may take; then it is answered with 504")
    ] = 300,
    drain: Annotated[float, typer.Option("--drain", min=0, help="seconds that running replies get after SIGTERM")] = 60,
    no_page: Annotated[bool, typer.Option("--no-page", help="serve the API only, without the page at /")] = False,
    dtype: DtypeOption = "float32",
    device: DeviceOption = None,
    allow_other_base: OtherBaseOption = False,
    knobs_by: Annotated[
        Literal["adapters", "gate"],
        typer.Option("--knobs-by", help="vllm: an adapter for each setting, or one with a gate for every token"),
    ] = "adapters",
    step: Annotated[
        float, typer.Option("--step", min=0.001, max=1, help="vllm, adapters: λ is rounded to multiples of this")
    ] = 0.05,
    kept: Annotated[int, typer.Option("--keep", min=1, help="vllm, adapters: composed settings that are kept")] = 64,
    max_lora_rank: Annotated[
        int | None,
        typer.Option(
            "--max-lora-rank", min=1, help="vllm: largest rank it makes room for; default: what the vectors need"
        ),
    ] = None,
    print_command: Annotated[
        bool, typer.Option("--print-command", help="vllm: print how vLLM is started, and do not start it")
    ] = False,
) -> None:
    """Serve an OpenAI-compatible API, with knobs per request.

    A page to turn them is at /.
    """
    from alignvec.errors import ConfigError, KnobError
    from alignvec.serve.address import bind, require_loopback

    require_loopback(host, policy)
    _check_engine(context_, engine)
    if audit_prompts and audit is None:
        raise ConfigError("--audit-prompts needs a file for the audit log; give --audit")
    if engine == "vllm":
        serve_vllm(
            model,
            list(vector_places(vectors).values()),
            knobs_by,
            address=(host, port),
            dtype=dtype,
            batch=max_batch,
            context=context,
            extra=context_.args,
            print_only=print_command,
            step=step,
            settings=kept,
            rank=max_lora_rank,
            policy=policy and policy.resolve(),
            audit=audit and audit.resolve(),
            audit_prompts=audit_prompts,
            strict=strict,
            goals=settings and settings.resolve(),
            allow_other_base=allow_other_base,
        )
        return
    if no_vectors and vectors:
        raise ConfigError("--no-vectors and --vectors exclude each other; give one of them")
    from alignvec import models
    from alignvec.serve.api.knobs import served_name
    from alignvec.serve.engine.engine import Engine, EngineSettings
    from alignvec.serve.goals import check_goals
    from alignvec.serve.metrics import Metrics
    from alignvec.serve.policy.audit import AuditLog
    from alignvec.serve.policy.limits import RateLimits
    from alignvec.serve.policy.policy import load_policy, open_policy
    from alignvec.serve.routing import Routing
    from alignvec.serve.run import serve as run
    from alignvec.serve.service import Options, Service
    from alignvec.steer.routed import router_for
    from alignvec.steer.scale import scale_of
    from alignvec.steer.solved import read_settings, routing_mismatch
    from alignvec.vectors.store import load_vector
    from alignvec.vectors.vector import AlignmentVector

    def read() -> list[AlignmentVector]:
        return [] if no_vectors else [load_vector(place) for place in vector_places(vectors).values()]

    rules = load_policy(policy) if policy else open_policy()
    loaded = read()
    scales = {vector.name: scale_of(vector.card) for vector in loaded}
    rules.check(scales)
    goals = read_settings(settings) if settings else {}
    if settings and (wrong := routing_mismatch(settings, router=router is not None)):
        raise KnobError(wrong)
    check_goals(goals, scales)
    log = AuditLog(audit, audit_prompts)
    bound = bind(host, port)
    base = models.load(model, dtype=dtype, device=device)
    routing = Routing(router_for(base, router), base) if router else None
    sizes = EngineSettings(
        max_batch=max_batch,
        queue=queue,
        context=context or min(base.context_length, 2048),
        allow_other_base=allow_other_base,
    )
    own = Engine(base, loaded, sizes)
    options = Options(
        served_name(model),
        strict=strict,
        timeout=timeout,
        vectors=read,
        page=not no_page,
        routing=routing,
        goals=goals,
    )
    service = Service(own, rules, RateLimits(), log, Metrics(own.load), options)
    names = ", ".join(own.scales) or "none"
    said = f"policy {policy}" if policy else "no policy: loopback only"
    said += f"; router {router}" if router else ""
    said += f"; {len(goals)} goals of {settings}" if settings else ""
    said += f"; audit log {audit}" if audit else ""
    run(service, bound, drain=drain, ready=f"model {options.model}; vectors {names}; {said}")


_TRANSFORMERS = ("no_vectors", "router", "queue", "timeout", "drain", "no_page", "device")
_VLLM = ("knobs_by", "step", "kept", "max_lora_rank", "print_command")


def _check_engine(context: typer.Context, engine: str) -> None:
    """Check that no option is given that the engine would ignore."""
    from alignvec.errors import ConfigError

    if context.args and engine != "vllm":
        raise ConfigError(f"unexpected argument {context.args[0]!r}; options of vLLM need --engine vllm")
    for name in _TRANSFORMERS if engine == "vllm" else _VLLM:
        if str(context.get_parameter_source(name)).endswith("COMMANDLINE"):
            option = "keep" if name == "kept" else name.replace("_", "-")
            raise ConfigError(f"--{option} is not for --engine {engine}; leave it out")
