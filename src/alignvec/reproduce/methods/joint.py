"""Joint training: one model a goal, trained on all domains at once (the paper's retraining baseline)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from alignvec.errors import ConfigError
from alignvec.models import BaseModel
from alignvec.reproduce.methods.gated import Gated
from alignvec.reproduce.methods.method import Goal, goal_text
from alignvec.steer.model import KnobbedModel
from alignvec.vectors.algebra import renamed
from alignvec.vectors.store import load_vector
from alignvec.vectors.vector import AlignmentVector


class JointVector(NamedTuple):
    """The vector that was trained for one goal, and the seconds that took (None: not measured)."""

    goal: Goal
    vector: AlignmentVector
    seconds: float | None = None


class Joint(Gated):
    """Each goal's own vector at λ = 1.

    Args:
        base: the base model.
        trained: the vectors.

    Raises:
        ConfigError: if two vectors were trained for one goal.
    """

    asks = "a vector trained for the goal"
    new_goal = "train on all domains"

    def __init__(self, base: BaseModel, trained: Sequence[JointVector]) -> None:
        named: dict[str, AlignmentVector] = {}
        for one in trained:
            name = goal_text(one.goal)
            if name in named:
                raise ConfigError(f"two joint vectors are for the goal {name}; give one of them")
            named[name] = renamed(one.vector, name)
        model = KnobbedModel(base, list(named.values()))
        super().__init__("joint", model, train_seconds=0.0)
        self._seconds = {goal_text(one.goal): one.seconds for one in trained}

    def knobs(self, goal: Goal) -> dict[str, float]:
        """λ = 1 of the goal's vector."""
        if not goal:
            return {}
        name = goal_text(goal)
        if name not in self._seconds:
            have = "; ".join(self._seconds) or "none"
            raise ConfigError(f"no vector was trained jointly for {name} (have: {have}); train one, or leave joint out")
        return {name: 1.0}

    def can(self, goal: Goal) -> bool:
        """Whether a vector was trained for the goal."""
        return not goal or goal_text(goal) in self._seconds

    def set_up(self, goal: Goal) -> float | None:
        """Seconds of training the goal's vector; the mean of the others' for a goal without one."""
        known = [seconds for seconds in self._seconds.values() if seconds is not None]
        own = self._seconds.get(goal_text(goal))
        return own if own is not None else mean(known) if known else None


def load_joint(base: BaseModel, folders: Mapping[str, Path], seconds: Mapping[str, float] | None = None) -> Joint:
    """Joint vectors from disk.

    Args:
        base: the base model.
        folders: goal, as `medical=expert,legal=avoidance`, to its vector's folder.
        seconds: the same goals to the seconds of their training, as far as measured.

    Raises:
        ConfigError: if a goal cannot be read.
        VectorError: if a folder holds no vector of this base.
    """
    trained = []
    for text, folder in folders.items():
        parts = [part.partition("=") for part in text.split(",")]
        goal = {domain.strip(): level.strip() for domain, _, level in parts}
        if not all(domain and level for domain, level in goal.items()) or len(goal) < len(parts):
            raise ConfigError(
                f"cannot read the goal {text!r} of {folder}; write it like medical=expert,legal=avoidance"
            )
        trained.append(JointVector(goal, load_vector(folder), (seconds or {}).get(text)))
    return Joint(base, trained)
