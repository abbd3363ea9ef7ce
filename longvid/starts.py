"""What a film begins with: chunks that are there before it, of a clip or of its own. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Handoff = Literal["context", "noised"]
Fit = Literal["crop", "pad"]
Audio = Literal["keep", "fade", "drop"]


@dataclass(frozen=True)
class Start:
    """Units at a film's front that are there before it is rendered.

    ``sources``: for each what its content is known by, a SHA-256: of a clip's frames, or the identity that
    the film's own chunk has. All but the last ``noised`` of them are given: clean, and as they are. Those are
    noised behind the given ones and made anew (paper Alg. 1, lines 1 to 3), so that they carry the motion on.
    ``clip``: the file that they are the end of, fitted to the model's picture by ``fit``; None for chunks of
    the film's own. ``lead``: units in front of those that the timeline tells of, a clip's, of which the first
    ``hidden`` are no part of the film.
    """

    sources: tuple[str, ...]
    noised: int = 0
    clip: Path | None = None
    fit: Fit = "crop"
    lead: int = 0
    hidden: int = 0

    @staticmethod
    def of_clip(clip: Path, sources: tuple[str, ...], noised: int, fit: Fit) -> Start:
        """From the last chunks of a clip."""
        return Start(sources, noised, clip, fit, lead=len(sources), hidden=len(sources) - noised)

    @property
    def given(self) -> int:
        return len(self.sources) - self.noised

    def content(self) -> dict[str, Any]:
        """As plain data."""
        clip = None if self.clip is None else str(self.clip.absolute())
        return asdict(self) | {"sources": list(self.sources), "clip": clip}

    @staticmethod
    def of(content: Mapping[str, Any]) -> Start:
        """The inverse of ``content``."""
        clip = None if content["clip"] is None else Path(content["clip"])
        return Start(**{**content, "sources": tuple(content["sources"]), "clip": clip})
