"""`alignvec generate`: every prompt of a file replied to at every setting, in shards, by any engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alignvec.cli.common import (
    DeviceOption,
    JsonOption,
    MaxNewTokensOption,
    SeedOption,
    Split,
    TemperatureOption,
    VectorsOption,
    print_json,
)
from alignvec.cli.data.options import AttemptsOption, BudgetTokensOption, InFlightOption, KeyOption, TimeoutOption
from alignvec.progress import progress

if TYPE_CHECKING:
    from alignvec.evaluate.bulk.generate import Generation

Engine = Literal["local", "openai", "vllm"]


def generate(
    prompts: Annotated[Path, typer.Option("--prompts", help="JSON lines with id and query; see docs/generating.md")],
    out: Annotated[Path, typer.Option("--out", help="folder of the run; the same command goes on there")],
    knob: Annotated[
        list[str] | None,
        typer.Option("--knob", help="a whole setting such as medical=0.5,legal=-1, or base; repeatable; default: base"),
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option("--engine", help="who replies; default: openai with an endpoint, else local")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option("--endpoint-url", "--endpoint", help="openai: an OpenAI-compatible endpoint")
    ] = None,
    endpoint_model: Annotated[
        str | None, typer.Option("--endpoint-model", help="openai: the model's name there; default: what it serves")
    ] = None,
    model_template: Annotated[
        str | None,
        typer.Option("--model-template", help="openai: write knobs into the model's name, such as {model}:{knobs}"),
    ] = None,
    key_variable: KeyOption = "OPENAI_API_KEY",
    in_flight: InFlightOption = 16,
    timeout: TimeoutOption = 120.0,
    attempts: AttemptsOption = 6,
    budget_tokens: BudgetTokensOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="local, vllm: a folder or a hub id; default: demo")
    ] = None,
    vectors: VectorsOption = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="local, vllm: replies at once; default: 16, 1024")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="local, vllm: float32 (default), bfloat16 or float16")
    ] = None,
    device: DeviceOption = None,
    split: Annotated[Split | None, typer.Option("--split", help="of preference data: this split only")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="the first N prompts only; default: all")] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="replies in a file")] = 1000,
    temperature: TemperatureOption = 0.7,
    top_p: Annotated[
        float,
        typer.Option(
            "--top-p",
            min=0.01,
            max=1.0,
            help="sample from the likeliest tokens that hold this share of the probability",
        ),
    ] = 0.9,
    repetition_penalty: Annotated[
        float,
        typer.Option(
            "--repetition-penalty",
            min=1.0,
            help="lowers tokens that were already said; 1: not at all, and not sent to an endpoint",
        ),
    ] = 1.1,
    max_new_tokens: MaxNewTokensOption = 160,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Reply to many prompts at every setting.

    Replies go into OUT/replies; `alignvec level-rates OUT` tells their levels. Stopped or killed, the same command goes
    on: no finished reply is asked for again. Replies that could not be had are listed in OUT/failed.jsonl and asked for
    again by the same command; the exit code is 1 while any is missing.
    """
    from alignvec.data.teacher.budget import Limits
    from alignvec.evaluate.bulk.choose import Choice, chosen
    from alignvec.evaluate.bulk.generate import generate as run
    from alignvec.evaluate.bulk.prompts import read_prompts
    from alignvec.steer.sampling import Sampling

    read = read_prompts(prompts, split=split, limit=limit)
    choice = Choice(
        engine=engine,
        endpoint_url=endpoint_url,
        endpoint_model=endpoint_model,
        model_template=model_template,
        key_variable=key_variable,
        in_flight=in_flight,
        timeout=timeout,
        attempts=attempts,
        model=model,
        vectors=vectors,
        batch_size=batch_size,
        dtype=dtype,
        device=device,
    )
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    plan, opened = chosen(choice, read, knob or ["base"], sampling, shard_size)
    with progress(rate=True) as advance:
        result = run(
            plan,
            read,
            out,
            opened,
            limits=Limits(tokens=budget_tokens),
            advance=lambda n, before: advance("replies", n, plan.replies, before=before),
        )
    if json:
        print_json(result)
    else:
        _print(result)
    if result.missing:
        raise typer.Exit(1)


def _print(result: "Generation") -> None:
    typer.echo(
        f"{result.replies - result.missing:,} of {result.replies:,} replies in {result.out}: {result.answers:,} asked "
        f"for in {result.seconds:.1f} s, {result.before + result.kept:,} from before"
    )
    for cause, count in result.retries.items():
        typer.echo(f"tried again for {cause}: {count:,}")
    if result.missing:
        typer.echo(
            f"{result.missing:,} are missing: {result.out}/failed.jsonl says why; the same command asks for them again",
            err=True,
        )
    else:
        typer.echo(f"level rates: alignvec level-rates {result.out}")
