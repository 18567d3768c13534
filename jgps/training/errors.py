"""What can stop a run, as exceptions with one sentence each."""


class UsageError(ValueError):
    """The run was asked for in a way that cannot work; the message says what to change."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and which setting to turn."""
