"""How tensors of two checkpoints may fail to match, and the policies that let them pass."""

from enum import StrEnum


class Mismatch(StrEnum):
    """A way not to match; its value names the policy that allows it."""

    DTYPE = "dtype"
    VOCABULARY = "vocabulary"
    MISSING = "missing"


POLICIES = {
    Mismatch.DTYPE: "subtract tensors of different dtypes in float32",
    Mismatch.VOCABULARY: "take the rows that both have of a vocabulary that has grown or shrunk",
    Mismatch.MISSING: "leave out tensors that only one of the two has",
}
