"""`alignvec judge`: level rates of generated replies by several judges, and how far the judges agree."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alignvec.cli.common import JsonOption, ModelOption, SeedOption, print_json, print_table
from alignvec.cli.data.options import (
    AttemptsOption,
    BudgetMoneyOption,
    BudgetTokensOption,
    InFlightOption,
    PriceInOption,
    PriceOutOption,
    TimeoutOption,
)
from alignvec.progress import progress

if TYPE_CHECKING:
    from alignvec.evaluate.judged_record import Judged
    from alignvec.evaluate.judging import Judge

JUDGES = ("classifier", "likelihood", "llm")


def judge(
    replies: Annotated[list[Path], typer.Argument(help="replies.jsonl of sweeps")],
    by: Annotated[
        list[str] | None, typer.Option("--by", help="classifier, likelihood or llm; repeatable; default: classifier")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="labels by reading, one JSON object a line; see docs/judges.md")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="file of the replies' rows; repeatable; default: shipped data")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for JSON, verdicts, plot and a model's answers")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="judge N replies, drawn with --seed, labelled ones first")
    ] = None,
    seed: SeedOption = 0,
    bound: Annotated[
        float, typer.Option("--bound", min=0.0, max=1.0, help="lower end of κ from which a judge is trusted")
    ] = 0.4,
    judge_url: Annotated[str | None, typer.Option("--judge-url", help="llm: an OpenAI-compatible endpoint")] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", help="llm: the model's name at the endpoint")
    ] = None,
    judge_key_variable: Annotated[
        str, typer.Option("--judge-key-variable", help="llm: environment variable that holds the API key")
    ] = "OPENAI_API_KEY",
    rubric: Annotated[
        Path | None, typer.Option("--rubric", help="llm: prompt; default: recipes/prompts/level-rubric.yaml")
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", help="llm: domain file that defines the levels; default: the rows' own")
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="llm: longest answer, in tokens")] = 32,
    in_flight: InFlightOption = 16,
    timeout: TimeoutOption = 120.0,
    attempts: AttemptsOption = 6,
    budget_tokens: BudgetTokensOption = None,
    budget_money: BudgetMoneyOption = None,
    price_in: PriceInOption = 0.0,
    price_out: PriceOutOption = 0.0,
    journal: Annotated[
        list[Path] | None, typer.Option("--journal", help="likelihood: the sweeps' journals; default: beside REPLIES")
    ] = None,
    meter: Annotated[
        Literal["per_token", "raw", "implicit"], typer.Option("--meter", help="likelihood: what is compared")
    ] = "per_token",
    model: ModelOption = "demo",
    json: JsonOption = False,
) -> None:
    """Judge the replies of sweeps, and measure how judges agree.

    A model behind an endpoint is asked twice a reply, with the levels in opposite orders. Its answers are kept in OUT:
    stopped or killed, the same command goes on and asks for none of them again.
    """
    from alignvec.data.load import SHIPPED, load_files
    from alignvec.data.teacher.budget import Limits, Prices
    from alignvec.errors import ConfigError
    from alignvec.evaluate.judge import TEST_ONLY, judge_for
    from alignvec.evaluate.judged import choose, judge_replies, load_items
    from alignvec.evaluate.judged_report import write_judged
    from alignvec.evaluate.labels import load_readers
    from alignvec.evaluate.likelihood_judge import journals_beside, likelihood_judge

    chosen = list(dict.fromkeys(by or ["classifier"]))
    if unknown := sorted(set(chosen) - set(JUDGES)):
        raise ConfigError(f"no judge is called {unknown[0]!r} (have: {', '.join(JUDGES)}); check --by")
    if "llm" in chosen and (not judge_url or not judge_model or out is None):
        raise ConfigError("--by llm needs --judge-url, --judge-model and --out, where its answers are kept")
    files = data or [path for path in sorted(SHIPPED.glob("*.jsonl")) if path.stem not in TEST_ONLY]
    rows = {row.id: row for row in load_files(files)}
    everything = load_items(replies, rows)
    readers = load_readers(labels) if labels else []
    items = choose(everything, limit, first={key for one in readers for key in one.labels}, seed=seed)
    with progress() as advance:
        judges: list[Judge] = []
        if "classifier" in chosen:
            judges.append(judge_for(*files))
        if "likelihood" in chosen:
            judges.append(likelihood_judge(journal or journals_beside(replies), rows, model=model, meter=meter))
        if judge_url and judge_model and out and "llm" in chosen:
            from alignvec.evaluate.llm_judge import LlmJudge, definitions_of, load_rubric, safe_endpoint

            judges.append(
                LlmJudge(
                    safe_endpoint(judge_url, in_flight, timeout, attempts, judge_key_variable),
                    judge_model,
                    definitions_of(files, {item.row for item in items}, domain),
                    out / "answers.sqlite",
                    rubric=load_rubric(rubric),
                    max_tokens=max_tokens,
                    seed=seed,
                    prices=Prices(price_in, price_out),
                    limits=Limits(budget_tokens, budget_money),
                    advance=lambda n: advance("asking", n, len(items)),
                )
            )
        result, verdicts = judge_replies(
            items,
            judges,
            rows,
            readers=readers,
            files=[str(path) for path in replies],
            of=len(everything),
            bound=bound,
            seed=seed,
        )
    if out:
        write_judged(result, items, verdicts, out)
    if json:
        print_json(result)
    else:
        _print(result, out)


def _print(result: "Judged", out: Path | None) -> None:
    from alignvec.evaluate.judged_report import confusions, tables

    for table in (*tables(result), *confusions(result)):
        print_table(table.columns, table.rows, title=table.title)
        typer.echo()
    typer.echo(f"{result.replies} of {result.of} replies judged; brackets: 95 % intervals, personas resampled")
    if result.unused_labels:
        typer.echo(f"{result.unused_labels} labels are of replies that were not judged")
    for judge in result.judges:
        typer.echo(judge.about)
    for trust in result.agreement.trust:
        typer.echo(trust.line())
    if not result.agreement.trust:
        typer.echo("no labels by reading (--labels): nothing here says whether any of these judges is right")
    if out:
        typer.echo(f"{out}: judged.json verdicts.jsonl{' judged.png' if result.agreement.pairs else ''}")
