"""A plain text: one prompt a line. Blank lines and lines that begin with ``#`` are left out."""

from __future__ import annotations

from typing import Any

from longvid.schedules.imports import DEFAULT_SECONDS, Asked, Imported, Notes, plain


def read(text: str, asked: Asked) -> Imported:
    """Raises UserError for a text without a prompt."""
    notes = Notes()
    shots: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not (prompt := plain(line, asked, notes, number)):
            continue
        shots.append({"prompt": prompt, "seconds": asked.seconds or DEFAULT_SECONDS})
        lines.append(number)
    if not shots:
        raise asked.error(0, "holds no prompt; write one a line")
    if asked.seconds is None:
        notes.add("each prompt lasts 5 s; --seconds says how long")
    data = {**({"fps": asked.fps} if asked.fps else {}), "shots": shots}
    return Imported("a list", data, {("shots", i): line for i, line in enumerate(lines)}, notes)
