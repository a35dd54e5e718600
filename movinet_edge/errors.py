"""The two ways a command can end badly; the command line turns them into exit codes."""


class BadInput(Exception):
    """Wrong use or unusable input (exit code 2). The message is one sentence that names the fix."""


class CheckFailed(Exception):
    """A check ran and did not hold (exit code 1)."""
