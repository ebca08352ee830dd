"""Stages of a reproduction, in the order in which they are measured and shown."""

from alignvec.reproduce.stage import Stage
from alignvec.reproduce.stages import (
    capability,
    curves,
    dataset,
    examples,
    forms,
    goal_cost,
    goals,
    inference,
    joint,
    judges,
    methods,
    safety,
    spillover,
    transfer,
    vectors,
)

_IN_ORDER = (
    dataset.STAGE,
    vectors.STAGE,
    forms.STAGE,
    curves.STAGE,
    examples.STAGE,
    judges.STAGE,
    spillover.STAGE,
    goals.STAGE,
    safety.STAGE,
    safety.KEPT,
    safety.BESIDE,
    transfer.TO_SAFETY,
    transfer.FROM_SAFETY,
    transfer.TO_SFT,
    joint.STAGE,
    methods.STRENGTHS,
    methods.STAGE,
    capability.STAGE,
    inference.STAGE,
    goal_cost.STAGE,
)
STAGES: dict[str, Stage] = {stage.name: stage for stage in _IN_ORDER}
