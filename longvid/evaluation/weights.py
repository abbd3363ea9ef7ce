"""The published networks that some metrics take: `longvid models pull metrics`. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from longvid import downloads
from longvid.downloads import Download

NAME = "metrics"
CLIP, VIDEOMAE = "clip", "videomae"


@dataclass(frozen=True)
class Metrics:
    """What `longvid models` pulls and checks under this name, as it does a model's weights."""

    name: str = NAME
    downloads: tuple[Download, ...] = (
        Download(
            repo="openai/clip-vit-large-patch14",
            revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
            files=("config.json", "model.safetensors", "vocab.json", "merges.txt"),
            folder=CLIP,
            licence="as OpenAI's CLIP (MIT)",
            bytes=1_710_000_000,
        ),
        Download(
            repo="MCG-NJU/videomae-base-finetuned-kinetics",
            revision="488eb9a0565f257b32866000305c8178965eb9f6",
            files=("config.json", "model.safetensors"),
            folder=VIDEOMAE,
            licence="CC BY-NC 4.0: not for commercial use",
            bytes=346_000_000,
        ),
    )

    @property
    def folder(self) -> Path:
        """Raises UserError for want of a home."""
        return downloads.folder(NAME)

    def part(self, name: str) -> Path | None:
        """The folder of CLIP or VIDEOMAE, where all of it is here."""
        download = next(download for download in self.downloads if download.folder == name)
        folder = self.folder / name
        return folder if all((folder / file).is_file() for file in download.files) else None

    def missing_files(self) -> list[str]:
        wanted = (self.folder / part.folder / file for part in self.downloads for file in part.files)
        return [str(file) for file in wanted if not file.is_file()]

    def check_weights(self) -> list[str]:
        """Nothing beside their checksums: transformers reads them."""
        return []
