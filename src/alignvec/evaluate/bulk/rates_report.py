"""Level rates of a run as tables and files."""

from pathlib import Path

from alignvec.evaluate.bulk.rates import BulkRates
from alignvec.evaluate.table import Table
from alignvec.files import write_text
from alignvec.steer.knobs import format_knobs

RATES = "rates.json"
WIDEST = 18
"""Characters of a setting that fit beside the rates; longer ones get a number, told above the table."""


def tables(result: BulkRates) -> list[Table]:
    """Level rates in percent by setting, a table for each domain; with 95 % intervals."""
    found = []
    names = [format_knobs(knobs) for knobs in result.plan.settings]
    numbered = max(map(len, names)) > WIDEST
    short = {name: f"#{i}" if numbered else name for i, name in enumerate(names, start=1)}
    if numbered:
        lines = tuple((short[name], name) for name in names)
        found.append(Table(title="settings", columns=("", "knobs"), rows=lines))
    for domain in dict.fromkeys(one.domain for one in result.rates):
        mine = [one for one in result.rates if one.domain == domain]
        rows = tuple(
            (
                short[format_knobs(one.knobs)],
                *(one.rate[level].told(".1f", scale=100, comma=",") for level in result.levels),
                f"{100 * one.degenerate.value:.1f}",
            )
            for one in mine
        )
        least, most = min(one.replies for one in mine), max(one.replies for one in mine)
        count = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        title = f"{domain or 'all'}: level of {count} replies at each setting, % by the judge"
        found.append(Table(title=title, columns=("", *result.levels, "broken"), rows=rows))
    return found


def write_rates(result: BulkRates, out: Path) -> None:
    """Write rates.json and rates.png into the folder of a run, each atomically.

    Raises:
        StorageError: if it cannot be written.
    """
    from alignvec.evaluate.bulk.rates_plot import plot_rates

    write_text(out / RATES, result.model_dump_json(indent=1) + "\n")
    plot_rates(result, out / "rates.png")
