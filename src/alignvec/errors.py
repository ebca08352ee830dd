"""What can go wrong for a user: each message names the thing, the cause and the next step."""


class AlignvecError(Exception):
    """Base of every error a user can cause. The CLI prints it in one line and exits with code 2."""


class DataError(AlignvecError):
    """A data file, row, split or preference order cannot be used."""


class ModelError(AlignvecError):
    """A base model cannot be found, fetched, converted or loaded."""


class VectorError(AlignvecError):
    """A vector folder is missing, damaged, or does not belong to the base model."""


class KnobError(AlignvecError):
    """A knob names an unknown vector or has a coefficient that is not a finite number."""


class ConfigError(AlignvecError):
    """A recipe or an option has a value that cannot work."""


class StorageError(AlignvecError):
    """A file cannot be written: no space left, or the place is read-only."""


class TeacherError(AlignvecError):
    """The teacher endpoint cannot be reached, refuses, or does not answer; answers so far are kept."""


class BudgetError(AlignvecError):
    """The budget is used up; answers so far are kept."""


class ProcessError(AlignvecError):
    """Another of the processes at one command has ended."""
