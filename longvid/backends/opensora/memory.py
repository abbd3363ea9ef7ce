"""Ways to hold Open-Sora's networks in memory, and what each takes. Torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longvid.backends import RESIDENT, FilmSpec, Rung

if TYPE_CHECKING:
    from longvid.backends.opensora import OpenSora


def rungs(backend: OpenSora, spec: FilmSpec, value_bytes: int) -> list[Rung]:
    """The fastest first."""
    return [Rung(RESIDENT, None, "everything stays in memory")]
