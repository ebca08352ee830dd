"""The base model, whatever is asked for: what every method is compared with."""

from alignvec.models import BaseModel
from alignvec.reproduce.methods.gated import Gated
from alignvec.reproduce.methods.method import Goal
from alignvec.steer.model import KnobbedModel


class Base(Gated):
    """Replies without knobs and instructions."""

    asks = "not at all"
    new_goal = "nothing"

    def __init__(self, base: BaseModel) -> None:
        super().__init__("base", KnobbedModel(base), train_seconds=0.0)

    def knobs(self, goal: Goal) -> dict[str, float]:
        """No knobs."""
        return {}
