"""What went wrong as an exit code, behind one line for a person: of `longvid` and of its tools alike."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from longvid.errors import LockedError, RenderError, UserError


@contextmanager
def reported() -> Iterator[None]:
    """Run a program's command inside it.

    Exit codes: 1 failed while running, 2 wrong input, 3 locked by another process, each behind one line on
    stderr. A bug is a traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A character that the terminal has no letter for must not end a finished render in a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except (UserError, LockedError, RenderError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered for stdout has no place to go
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)
