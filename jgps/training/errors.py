"""What can stop a run, as exceptions with one sentence each."""


class UsageError(ValueError):
    """The run was asked for in a way that cannot work; the message says what to change."""


class DamagedError(UsageError):
    """A file of a run cannot be read; the message names it, what is wrong and what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and which setting to turn."""


class WriteError(TrainingError):
    """A file of a run cannot be written; the message names it, with what is needed and free."""


class Terminated(SystemExit):
    """SIGTERM asked the process to end; its code is 143, by convention 128 and the signal's 15."""

    def __init__(self, code: int, text: str = "terminated"):
        super().__init__(code)
        self.code: int = code
        self.text = text
