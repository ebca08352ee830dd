"""Routers for the tiny model."""

import numpy as np

from alignvec.models import BaseModel
from alignvec.steer.router import Router, RouterCard
from alignvec.vectors.fingerprint import fingerprint

SURE, UNSURE = 60.0, 0.0
"""Log-odds of probability 1 and 0.5; `-SURE` is probability 0."""


def router_of(base: BaseModel, *, spread: float = 0.0, **log_odds: float) -> Router:
    """A router with these log-odds by domain for every prompt, if it is not told to spread them by what it reads."""
    weight = spread * np.random.default_rng(0).normal(size=(len(log_odds), 32))
    card = RouterCard(base=fingerprint(base.folder), domains=tuple(log_odds), layers=(2,))
    return Router(card, weight, np.array(list(log_odds.values())))
