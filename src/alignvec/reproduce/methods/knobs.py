"""Knobs: one alignment vector a domain, one-sided, two-sided or hinged, with or without a router in front."""

from collections.abc import Sequence

from alignvec.errors import ConfigError
from alignvec.models import BaseModel
from alignvec.reproduce.methods.gated import Gated
from alignvec.reproduce.methods.method import Goal
from alignvec.reproduce.methods.strengths import Strengths, Tunable
from alignvec.steer.model import KnobbedModel
from alignvec.steer.routed import domains_of
from alignvec.steer.router import Router
from alignvec.vectors.algebra import in_form
from alignvec.vectors.vector import AlignmentVector


class KnobMethod(Gated, Tunable):
    """One vector a domain at coefficient λ.

    The name is the form's, with `-routed` behind it if there is a router.

    Args:
        model: with one vector a domain, see `knob_method`.
        form: of the vectors.
        strengths: λ.
        router: see `Gated`.
        train_seconds: of the vectors.
    """

    asks = "λ of each domain's vector"
    new_goal = "look up each λ"

    def __init__(
        self,
        model: KnobbedModel,
        form: str,
        strengths: Strengths,
        *,
        router: Router | None = None,
        train_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{form}-routed" if router else form, model, router=router, train_seconds=train_seconds)
        self.form = form
        self.strengths = strengths
        self._names = names_by_domain(list(model.vectors.values()))

    def knobs(self, goal: Goal) -> dict[str, float]:
        """λ of each domain that the goal names."""
        found = {name_of(self._names, domain): value for domain, value in self.strengths_of(goal).items()}
        return {name: value for name, value in found.items() if value}

    def with_strengths(self, strengths: Strengths) -> "KnobMethod":
        """See `Tunable.with_strengths`."""
        return KnobMethod(self.model, self.form, strengths, router=self.router, train_seconds=self.train_seconds)


def knob_method(
    base: BaseModel,
    vectors: Sequence[AlignmentVector],
    form: str,
    strengths: Strengths,
    *,
    router: Router | None = None,
    train_seconds: float | None = None,
) -> KnobMethod:
    """Knobs of one form, made from the two sides of hinged vectors, so that all forms come from the same training.

    Args:
        base: the base model.
        vectors: hinged, one a domain.
        form: to turn them into.
        strengths: domain to level to λ; {} before any was chosen.
        router: see `Gated`.
        train_seconds: of the vectors.

    Raises:
        ConfigError: if two vectors are of one domain.
        VectorError: if the form is unknown, or a vector is not hinged.
    """
    model = KnobbedModel(base, [in_form(vector, form) for vector in vectors])
    return KnobMethod(model, form, strengths, router=router, train_seconds=train_seconds)


def names_by_domain(vectors: Sequence[AlignmentVector]) -> dict[str, str]:
    """Name of each domain's vector.

    Raises:
        ConfigError: if two vectors are of one domain.
    """
    found: dict[str, str] = {}
    for name, domain in domains_of(vectors).items():
        if domain in found:
            raise ConfigError(f"vectors {found[domain]!r} and {name!r} are both of domain {domain!r}; give one of them")
        found[domain] = name
    return found


def name_of(names: dict[str, str], domain: str) -> str:
    """Name of a domain's vector.

    Raises:
        ConfigError: if there is none.
    """
    if domain not in names:
        raise ConfigError(f"no vector of domain {domain!r} (have: {', '.join(names) or 'none'}); check the goal")
    return names[domain]
