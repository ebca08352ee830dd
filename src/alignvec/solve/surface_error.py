"""How far the surface is off at settings that it was not fitted to."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel as Record
from pydantic import ConfigDict

from alignvec.errors import DataError
from alignvec.evaluate.statistics import bootstrap_mean
from alignvec.solve.behaviour import Behaviour
from alignvec.solve.measure import Measured
from alignvec.solve.solver import Kind, measured_rates
from alignvec.solve.surface import Array
from alignvec.vectors.strict import Interval


class RateError(Record):
    """Error of one kind of rate.

    Attributes:
        mean: mean absolute difference of predicted and measured rate, over settings, domains and levels, with a 95 %
            interval over settings.
        domains: the mean of each domain.
        noise: mean absolute difference that a binomial draw of as many replies as a domain has queries would have if
            every prediction were true; None for rates that nothing is drawn for. A little too high where queries
            differ in how likely a level is.
        explained: share of the mean that the noise alone would give; 1 or more: nothing is left to explain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: Interval
    domains: dict[str, float]
    noise: float | None = None
    explained: float | None = None


class SurfaceError(Record):
    """Errors at settings that were not used in the fit.

    Attributes:
        fitted: number of settings that were.
        held_out: number of settings that were not.
        preference: of the rates of the likeliest reference reply. Likelihoods are computed, not drawn, so all of it is
            the surface's.
        level: of the rates of generated replies' levels; None if none were generated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fitted: int
    held_out: int
    preference: RateError
    level: RateError | None


def surface_error(behaviour: Behaviour, held_out: Measured) -> SurfaceError:
    """Compare predicted and measured rates.

    Args:
        behaviour: fitted to other settings of the same queries.
        held_out: the settings.

    Raises:
        DataError: if a held-out setting was used in the fit, or there is none.
    """
    fitted = behaviour.measured
    used = {tuple(point) for point in fitted.points.tolist()}
    if not len(held_out.points) or any(tuple(point) in used for point in held_out.points.tolist()):
        raise DataError("no held-out settings, or some that the surface was fitted to; draw them with another --seed")
    if [row.id for row in held_out.rows] != [row.id for row in fitted.rows]:
        raise DataError("held-out settings were measured on other queries than the fit; measure them on the same")
    level = None
    if fitted.said is not None and held_out.said is not None:
        predicted = behaviour.level_rates(held_out.points)
        counts = np.array([held_out.of(domain).sum() for domain in held_out.domains])
        level = _error(predicted, held_out, "level", float(_noise(predicted, counts).mean()))
    preference = _error(behaviour.preference_rates(held_out.points), held_out, "preference")
    return SurfaceError(fitted=len(fitted.points), held_out=len(held_out.points), preference=preference, level=level)


def _error(predicted: Array, measured: Measured, by: Kind, noise: float | None = None) -> RateError:
    off = np.abs(predicted - measured_rates(measured, by))
    each = off.mean(axis=(1, 2))
    mean = bootstrap_mean(each.tolist(), [str(i) for i in range(len(each))])
    domains = dict(zip(measured.domains, off.mean(axis=(0, 2)).tolist(), strict=True))
    share = noise / mean.value if noise is not None and mean.value else None
    return RateError(mean=mean, domains=domains, noise=noise, explained=share)


def _noise(rates: Array, counts: npt.NDArray[np.int64]) -> Array:
    """Mean absolute deviation of a binomial share, [points, domains, levels].

    Args:
        rates: [points, domains, levels].
        counts: draws of each domain, [domains].
    """
    from scipy.stats import binom

    found = []
    for i, count in enumerate(counts.tolist()):
        drawn = np.arange(count + 1)
        chances = binom.pmf(drawn, count, np.clip(rates[:, i, :, None], 0.0, 1.0))
        found.append((chances * np.abs(drawn / count - rates[:, i, :, None])).sum(axis=-1))
    return np.stack(found, axis=1)
