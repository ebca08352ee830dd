"""Level rates of a run as a picture: over λ where one knob was turned, else setting by setting."""

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignvec.evaluate.drawing import COLOURS, band
from alignvec.files import write_figure
from alignvec.steer.knobs import format_knobs

if TYPE_CHECKING:
    from alignvec.evaluate.bulk.rates import BulkRates, SettingRates


def plot_rates(result: "BulkRates", path: Path) -> None:
    """Draw one panel a domain into a PNG, atomically.

    Raises:
        StorageError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    domains = list(dict.fromkeys(one.domain for one in result.rates))
    knob = _only_knob(result)
    width = 7.2 if knob else max(7.2, 1.1 * len(result.plan.settings))
    figure = Figure(figsize=(width, 3.6 * len(domains)), layout="constrained")
    for domain, (axis,) in zip(domains, figure.subplots(len(domains), 1, squeeze=False), strict=True):
        mine = [one for one in result.rates if one.domain == domain]
        _over_knob(axis, result, mine, knob) if knob else _by_setting(axis, result, mine)
        axis.set(title=f"{domain or 'all prompts'}: {sum(one.replies for one in mine):,} generated replies")
        axis.set(ylim=(-0.03, 1.03), ylabel="share of replies")
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    write_figure(path, figure)


def _only_knob(result: "BulkRates") -> str | None:
    """The knob that the settings differ in, if it is one alone and takes several values."""
    names = {name for knobs in result.plan.settings for name in knobs}
    return names.pop() if len(names) == 1 and len(result.plan.settings) > 1 else None


def _over_knob(axis: Any, result: "BulkRates", mine: "list[SettingRates]", knob: str) -> None:
    mine = sorted(mine, key=lambda one: one.knobs.get(knob, 0.0))
    xs = [one.knobs.get(knob, 0.0) for one in mine]
    for colour, level in zip(cycle(COLOURS), result.levels, strict=False):
        band(axis, [(x, one.rate[level]) for x, one in zip(xs, mine, strict=True)], colour, level)
    axis.plot(xs, [one.degenerate.value for one in mine], "k:", linewidth=1, label="degenerate")
    axis.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    axis.set_xlabel(f"λ of the {knob} knob", fontsize=8)


def _by_setting(axis: Any, result: "BulkRates", mine: "list[SettingRates]") -> None:
    count = len(result.levels)
    for i, (colour, level) in enumerate(zip(cycle(COLOURS), result.levels, strict=False)):
        at = [x + (i - (count - 1) / 2) * 0.8 / count for x in range(len(mine))]
        rates = [one.rate[level] for one in mine]
        values = [rate.value for rate in rates]
        low, high = zip(*(rate.drawn for rate in rates), strict=True)
        spread = [
            [value - end for value, end in zip(values, low, strict=True)],
            [end - value for value, end in zip(values, high, strict=True)],
        ]
        axis.bar(at, values, 0.8 / count, color=colour, label=level, yerr=spread, error_kw={"linewidth": 0.8})
    axis.plot([one.degenerate.value for one in mine], "kx", markersize=4, label="degenerate")
    axis.set_xticks(range(len(mine)), [format_knobs(one.knobs).replace(",", "\n") for one in mine], fontsize=7)
