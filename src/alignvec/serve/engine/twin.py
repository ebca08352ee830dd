"""A base model once more, for forward passes that must not meet the knobs of the batch."""

import copy

from alignvec.models import BaseModel


def twin(base: BaseModel) -> BaseModel:
    """The same model with modules, hooks and a tokenizer of its own; the weights are shared, so it costs no memory.

    Args:
        base: without hooks, which would be copied too.
    """
    shared = {id(tensor): tensor for tensor in (*base.model.parameters(), *base.model.buffers())}
    return BaseModel(base.name, base.folder, copy.deepcopy(base.model, shared), copy.deepcopy(base.tokenizer))
