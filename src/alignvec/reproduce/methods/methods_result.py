"""Methods compared, as a record and tables."""

from alignvec.evaluate.capability_record import Measured
from alignvec.evaluate.judge import JudgeReport
from alignvec.evaluate.spillover_record import Shift
from alignvec.evaluate.spillover_report import points
from alignvec.evaluate.table import Table
from alignvec.provenance import Provenance
from alignvec.reproduce.methods.method import MethodCard
from alignvec.reproduce.methods.method_speed import Speed
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Interval, Strict


class Cell(Strict):
    """One domain's queries under a goal of several domains.

    Attributes:
        goal: as `legal=avoidance,medical=expert`.
        domain: of the queries.
        wanted: the level that the goal asks of it.
        queries: their number.
        rates: level to share of generated replies that are of it and not degenerate.
        degenerate: share of replies that are empty or loop.
        reached: whether the wanted level is the most frequent, with a rate of `solve.goals.REACHED` or more.
    """

    goal: str
    domain: str
    wanted: str
    queries: int
    rates: dict[str, Interval]
    degenerate: Interval
    reached: bool


class Spilled(Strict):
    """What a goal of one domain changes in another domain's replies."""

    goal: str
    domain: str
    shift: Shift


class MethodResult(Strict):
    """What was measured of one method.

    Attributes:
        card: what it is and needs.
        cells: one for each goal and domain.
        level_rate: mean rate of the wanted level over the cells.
        reached: share of cells that are reached.
        degenerate: mean over the cells.
        spilled: one for each goal of one domain and each other domain.
        spillover: mean absolute change of level rates over them; None if the method cannot be asked for any of them.
        answers: share of questions answered right, mean over the goals, and its change against the base; None if not
            measured.
        speed: for each batch size, under the first goal; empty if not measured.
    """

    card: MethodCard
    cells: tuple[Cell, ...]
    level_rate: Interval
    reached: float
    degenerate: Interval
    spilled: tuple[Spilled, ...]
    spillover: Interval | None
    answers: Measured | None
    speed: tuple[Speed, ...]


class Comparison(Strict):
    """Everything that `methods.json` holds.

    Attributes:
        data: the queries.
        goals: that levels of replies are measured under.
        queries: number of queries of all domains.
        questions: number of questions with four choices.
        judge: the judge's own accuracy.
        threads: of torch, when timed.
    """

    data: str
    domains: tuple[str, ...]
    levels: tuple[str, ...]
    goals: tuple[dict[str, str], ...]
    queries: int
    questions: int
    judge: JudgeReport
    sampling: Sampling
    threads: int
    methods: tuple[MethodResult, ...]
    provenance: Provenance


def tables(result: Comparison) -> list[Table]:
    """Summary, wanted levels by domain, side effects and cost, at most 80 columns each, with 95 % intervals."""
    count = sum(len(one.cells) for one in result.methods[:1])
    summary = [
        (one.card.name, _told(one.level_rate), f"{round(one.reached * count)}/{count}", _told(one.degenerate))
        for one in result.methods
    ]
    found = [
        Table(
            title=f"rate of the wanted level, {result.queries} queries, {result.data}",
            columns=("method", "level rate", "reached", "broken"),
            rows=tuple(summary),
        )
    ]
    for domain in result.domains:
        rows = []
        for one in result.methods:
            own = {cell.wanted: cell for cell in one.cells if cell.domain == domain}
            rows.append((one.card.name, *(_told_cell(own.get(level)) for level in result.levels)))
        title = f"{domain}: rate of each level when it is wanted (* reached)"
        found.append(Table(title=title, columns=("method", *result.levels), rows=tuple(rows)))
    side = [
        (
            one.card.name,
            points(one.spillover) if one.spillover else "-",
            _told(one.answers.value) if one.answers else "-",
            one.answers.change.told("+.0f", scale=100, comma=",") if one.answers else "-",
        )
        for one in result.methods
    ]
    title = f"other domains (mean |change| of level rates, points); {result.questions} questions"
    found.append(Table(title=title, columns=("method", "spillover", "answers", "against base"), rows=tuple(side)))
    return [*found, *_cost_tables(result)]


def _cost_tables(result: Comparison) -> list[Table]:
    needs = [
        (
            one.card.name, one.card.new_goal, _seconds(one.card.train_seconds), _seconds(one.card.set_up_seconds),
            f"{one.card.weight_bytes / 1e6:.1f}",
        )
        for one in result.methods
    ]  # fmt: skip
    found = [
        Table(
            title="cost: seconds of training, seconds for a new goal, megabytes beside the base",
            columns=("method", "a new goal", "train s", "goal s", "MB"),
            rows=tuple(needs),
        )
    ]
    batches = tuple(speed.batch for one in result.methods[:1] for speed in one.speed)
    if batches:
        speeds = [
            (
                one.card.name,
                *(speed.first_token.told(".3f") for speed in one.speed),
                *(f"{speed.tokens_per_second.median:.1f}" for speed in one.speed),
            )
            for one in result.methods
        ]
        columns = (*(f"first s, {n}" for n in batches), *(f"tokens/s, {n}" for n in batches))
        title = "seconds to the first token [least, most], tokens a second after it, by requests at once"
        found.append(Table(title=title, columns=("method", *columns), rows=tuple(speeds)))
    return found


def _told(interval: Interval) -> str:
    return interval.told(comma=",")


def _told_cell(cell: Cell | None) -> str:
    return "-" if cell is None else f"{_told(cell.rates[cell.wanted])}{'*' if cell.reached else ''}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
