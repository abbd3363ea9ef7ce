"""The exceptions that a person reads: one line each, no traceback, and an exit code."""


class UserError(Exception):
    """Wrong input: one line that says where, what, and the nearest fix. The command exits with 2."""

    exit_code = 2


class RenderError(Exception):
    """Failed while running (a full disk, a lost device): what happened, and what is kept. Exit code 1."""

    exit_code = 1


class LockedError(Exception):
    """Another process renders into the same work directory. The command exits with 3."""

    exit_code = 3
