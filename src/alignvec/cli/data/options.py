"""Options of `alignvec data build` and its steps."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DomainOption = Annotated[str, typer.Option("--domain", help="medical, legal, financial, or a domain file (.yaml)")]
OutOption = Annotated[Path, typer.Option("--out", help="folder of the build; the same command goes on there")]
UrlOption = Annotated[
    str | None,
    typer.Option("--teacher-url", help="base URL of an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1"),
]
ModelOption = Annotated[
    str, typer.Option("--teacher-model", help="the model's name at the endpoint; with vllm a folder or hub id")
]
EngineOption = Annotated[
    Literal["openai", "vllm"],
    typer.Option("--teacher-engine", help="an endpoint, or vLLM in this process, without a port"),
]
KeyOption = Annotated[str, typer.Option("--key-variable", help="environment variable that holds the API key")]
InFlightOption = Annotated[int, typer.Option("--in-flight", min=1, help="most requests at once")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="seconds one attempt may take")]
AttemptsOption = Annotated[int, typer.Option("--attempts", min=1, help="tries of a request that the endpoint fails")]
RetriesOption = Annotated[int, typer.Option("--retries", min=0, help="times a text that fails a gate is asked anew")]
SeedOption = Annotated[int, typer.Option("--seed", help="seed of the grid, the topics and every request")]
FirstOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="work on the first N personas (or queries) only; default: all")
]
PromptsOption = Annotated[Path | None, typer.Option("--prompts", help="folder of prompts; default: recipes/prompts")]
BudgetTokensOption = Annotated[
    int | None, typer.Option("--budget-tokens", min=1, help="most tokens in all, earlier runs in OUT included")
]
BudgetMoneyOption = Annotated[
    float | None, typer.Option("--budget-money", min=0.0, help="most money in all; needs the prices")
]
PriceInOption = Annotated[float, typer.Option("--price-in", min=0.0, help="money per million prompt tokens")]
PriceOutOption = Annotated[float, typer.Option("--price-out", min=0.0, help="money per million answer tokens")]
EstimateOption = Annotated[
    bool, typer.Option("--estimate", help="print how many requests and tokens it would take, and ask for nothing")
]
PersonasOption = Annotated[int, typer.Option("--personas", min=1, help="number of personas")]
PersonasFromOption = Annotated[
    Path | None, typer.Option("--personas-from", help="file of personas: one a line, or .jsonl with a field persona")
]
PersonaHubOption = Annotated[
    str | None, typer.Option("--persona-hub", help="PersonaHub's id or a local copy; chosen by the domain's keywords")
]
QueriesOption = Annotated[int, typer.Option("--queries-per-persona", min=1, help="number of queries of each persona")]
JudgeModelOption = Annotated[
    str | None, typer.Option("--judge-model", help="model that checks levels; default: the teacher")
]
JudgeUrlOption = Annotated[
    str | None, typer.Option("--judge-url", help="base URL of the judge's endpoint; default: the teacher's")
]
NoJudgeOption = Annotated[bool, typer.Option("--no-judge", help="leave levels unchecked")]
JudgeKeyOption = Annotated[
    str | None,
    typer.Option(
        "--judge-key-variable",
        help="environment variable with the judge's API key; default: the teacher's, on the teacher's server only",
    ),
]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", min=0.0, max=2.0, help="sampling temperature of the replies; 0 is greedy")
]
MaxTokensOption = Annotated[int, typer.Option("--max-tokens", min=1, help="longest reply, in tokens")]
