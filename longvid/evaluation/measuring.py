"""A film: looked at once, measured, and told as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from longvid.errors import UserError
from longvid.evaluation import frames, vbench, weights
from longvid.evaluation.clips import CLIP_SECONDS
from longvid.evaluation.features import Embed, efficientnet, finds_features
from longvid.evaluation.following import can_judge, following
from longvid.evaluation.judge import Judge
from longvid.evaluation.motion import finds_flow
from longvid.evaluation.networks import Clip, VideoMae
from longvid.evaluation.provenance import Provenance, provenance
from longvid.evaluation.scenes import finds_cuts
from longvid.evaluation.scores import Scores, as_json, score
from longvid.evaluation.signals import Signals, observe
from longvid.timeline import Timeline
from longvid.times import length
from longvid.video import source

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Means:
    """What can be measured here. ``missing``: a line on what is not, if anything. ``clip``, ``videomae``:
    where their weights were pulled. ``vbench``: the Python that has it, where one is named."""

    cuts: bool
    flow: bool
    embed: Embed | None
    missing: str | None
    clip: Clip | None = None
    videomae: VideoMae | None = None
    vbench: Path | None = None


def means(device: torch.device, vbench_python: Path | None = None) -> Means:
    """By what is installed and pulled. Raises UserError where that Python has no vbench."""
    if vbench_python is not None:
        vbench.check(vbench_python)
    cuts, flow, features = finds_cuts() and finds_flow(), finds_flow(), finds_features()
    missing = [
        what
        for what, found in (("scenes", cuts), ("motion", flow), ("features, and what they tell", features))
        if not found
    ]
    said = f"left out: {', '.join(missing)}; pip install 'longvid[metrics]' brings them" if missing else None
    pulled = weights.Metrics()
    clip, videomae = (
        pulled.part(part) if find_spec("transformers") else None for part in (weights.CLIP, weights.VIDEOMAE)
    )
    return Means(
        cuts,
        flow,
        efficientnet() if features else None,
        said,
        Clip.load(clip, device) if clip else None,
        VideoMae.load(videomae, device) if videomae else None,
        vbench_python,
    )


@dataclass(frozen=True)
class Measured:
    """A film's values as plain data, and what was seen of it."""

    values: dict[str, Any]
    signals: Signals


def film(path: Path) -> source.Source:
    """The film. Raises UserError where it is none, or shorter than a clip of two seconds."""
    found = source.probe(path)
    if found.picture:
        raise UserError(f"{path}: is a picture; films are measured")
    if found.frames / found.fps < CLIP_SECONDS:
        raise UserError(
            f"{path}: lasts {length(found.seconds)}; films are measured in clips of {length(CLIP_SECONDS)}, "
            "so give a longer one"
        )
    return found


def measure(
    found: source.Source,
    timeline: Timeline | None,
    by: Means,
    progress: Progress,
    *,
    device: torch.device,
    encoded: bool = False,
) -> Measured:
    """Everything of one film; its frames from the latents in its work directory where they are there and not
    ``encoded``, else from its file. Raises UserError."""
    made = provenance(found, timeline)
    shown, where, notes = _shown(found, made, None if encoded else device)
    total = found.frames

    def tell(frame: int) -> None:
        if frame % 24 == 0:
            progress(f"{found.path}: frame {frame} of {total}")

    signals = observe(
        shown,
        found.fps,
        cuts=by.cuts,
        flow=by.flow,
        embed=by.embed,
        clip=by.clip,
        videomae=by.videomae,
        progress=tell,
    )
    prompts = list(dict.fromkeys(shot.prompt for shot in made.shots if shot.prompt))
    followed = None
    if can_judge(found.metadata.get("model"), found.size, found.fps, made.shots):
        progress(f"{found.path}: the judge looks at it")
        again, _, _ = _shown(found, made, None if encoded else device)
        followed = following(again, made.shots, found.fps, Judge.load())
    texts = dict(zip(prompts, by.clip.texts(prompts), strict=True)) if by.clip and prompts else {}
    judged = None
    if by.vbench is not None:
        progress(f"{found.path}: VBench")
        again, _, _ = _shown(found, made, None if encoded else device)
        judged = vbench.vbench(by.vbench, again, signals.frames, found.fps)
    scores = score(signals, made, texts)
    values = {
        "film": str(found.path),
        "size": list(found.size),
        "fps": float(found.fps),
        "frames": signals.frames,
        "seconds": float(signals.frames / found.fps),
        "frames_from": where,
        "chunk_frames": made.chunk_frames,
        "shots": [
            {
                "prompt": shot.prompt,
                "start_seconds": float(shot.start_frame / found.fps),
                "end_seconds": float(shot.end_frame / found.fps),
                "cut": shot.cut,
            }
            for shot in made.shots
        ],
        **as_json(scores, found.fps),
        "follows": followed,
        "vbench": judged,
        "notes": [*made.notes, *notes, *found.notes, *_doubts(signals, scores, made, where, followed)],
    }
    return Measured(values, signals)


def _shown(found: source.Source, made: Provenance, device: torch.device | None) -> tuple[Any, str, list[str]]:
    """The film's frames, where they are from, and what should be known of that. ``device``: what its latents
    are decoded on, if they shall be."""
    if made.take is not None and device is not None:
        try:
            codec = frames.codec_of(made.take, device)
        except UserError as error:
            return source.frames(found), "file", [f"its file is measured, not its latents: {error}"]
        return frames.from_latents(made.take, codec, device), "latents", []
    return source.frames(found), "file", []


def _doubts(
    signals: Signals, scores: Scores, made: Provenance, where: str, followed: Mapping[str, Any] | None
) -> list[str]:
    """What could not be measured, or not well, for other reasons than missing packages, a phrase each."""
    said = []
    if made.borders is not None and where == "file":
        said.append("measured as it was encoded, so its seams and flicker are the encoder's as well")
    if made.chunk_frames is not None and signals.frames < 5 * made.chunk_frames:
        said.append("it is too short to tell its chunks' period by: five chunks are needed")
    if signals.features is not None and scores.consistency is None:
        said.append(
            f"no shot is long enough for feature consistency: two clips of {CLIP_SECONDS} s each are needed"
        )
    if followed is not None and followed["score"] is None:
        reasons = dict.fromkeys(shot["reason"] for shot in followed["by_shot"] if shot["reason"])
        said.append(f"how far its prompts are followed is not known: {'; '.join(reasons)}")
    return said
