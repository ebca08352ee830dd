"""What a router makes of one conversation: probabilities by domain, and the settings that follow from them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from alignvec import processes
from alignvec.models import BaseModel
from alignvec.steer.knobs import Knobs, Turn, as_asked
from alignvec.steer.model import KnobbedModel
from alignvec.steer.router import Array, Router, acting, load_router
from alignvec.vectors.fingerprint import fingerprint
from alignvec.vectors.vector import AlignmentVector

HALF = 0.5
"""Share of a knob from which a turn counts as its domain's business."""


def router_for(base: BaseModel, folder: Path) -> Router:
    """The router in a folder, if it reads this base's hidden states.

    Raises:
        VectorError: see `load_router`.
    """
    return load_router(folder, fingerprint(base.folder))


def domain_probabilities(router: Router, base: BaseModel, turns: tuple[str, ...]) -> dict[str, float]:
    """How likely the end of a conversation is each domain's business, by the domain's name.

    The last turn on which some knob would act by half or more counts, with all after it: "And for a child?" is read
    with the question before it, and not with an older topic. Without such a turn all are read.

    Args:
        router: made for the base.
        base: with every knob at 0.
        turns: what the user wrote, see `user_turns`.
    """
    last = len(turns) - 1
    for start in range(last, 0, -1):  # one at a time: most often the last turn is enough, and a batch would be padded
        found = router.probabilities(base, [turns[start]])[0]
        if acting(found, router.card.ramp).max() >= HALF:
            break
    else:
        start = 0
    if start < last or last <= 0:
        found = router.probabilities(base, ["\n".join(turns[start:])])[0]
    return dict(zip(router.card.domains, map(float, found), strict=True))


def user_turns(chat: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """What a router reads of a conversation (`role`, `content`): the user's turns."""
    return tuple(turn["content"] for turn in chat if turn["role"] == "user")


def domains_of(vectors: Iterable[AlignmentVector]) -> dict[str, str]:
    """Domain of each vector, by the vector's name; a vector without one has its name for a domain."""
    return {vector.name: vector.card.domain or vector.name for vector in vectors}


def routed(
    router: Router, knobbed: KnobbedModel, turns: tuple[str, ...], settings: Sequence[Knobs]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Probabilities of a conversation, and the settings as they are applied to it.

    Args:
        router: made for the knobbed model's base.
        knobbed: outside of any knob context.
        turns: see `domain_probabilities`.
        settings: as asked for.
    """
    probabilities = domain_probabilities(router, knobbed.base, turns)
    domains = domains_of(knobbed.vectors.values())
    return probabilities, [router.turn(setting, probabilities, domains) for setting in settings]


def row_shares(router: Router, model: KnobbedModel, queries: Sequence[str], names: Sequence[str]) -> Array:
    """How much of each knob acts on each query, [queries, names]; all of a knob whose domain the router does not know.

    Of several processes the main one asks the router: what depends on shares must have the same ones everywhere.

    Args:
        router: made for the model's base.
        model: outside of any knob context.
        queries: what users ask.
        names: of the knobs.
    """
    found = processes.on_main(lambda: acting(router.probabilities(model.base, queries), router.card.ramp))
    known = {domain: found[:, i] for i, domain in enumerate(router.card.domains)}
    domains = domains_of(model.vectors.values())
    return np.stack([known.get(domains[name], np.ones(len(queries))) for name in names], axis=1)


def turn_by(names: Sequence[str], shares: Array | None) -> Turn:
    """What a setting becomes for each row of which a router lets some share of every knob act.

    Coefficients are rounded to thousandths, and those at 0 left out, so that rows with alike settings share replies.

    Args:
        names: of the knobs.
        shares: [rows, names], see `row_shares`; None without a router.
    """
    if shares is None:
        return as_asked
    column = {name: i for i, name in enumerate(names)}

    def turn(row: int, knobs: Knobs) -> Knobs:
        turned = {name: round(value * float(shares[row, column[name]]), 3) for name, value in knobs.items()}
        return {name: value for name, value in turned.items() if value}

    return turn


def format_probabilities(probabilities: Mapping[str, float]) -> str:
    """Probabilities for people: `medical 0.97, legal 0.02`."""
    return ", ".join(f"{domain} {value:.2f}" for domain, value in probabilities.items())
