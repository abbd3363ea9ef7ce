"""All that is measured of one film."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from itertools import pairwise
from statistics import fmean
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from longvid.evaluation.clips import clip_means, clip_spans
from longvid.evaluation.drift import drift, slope_per_minute
from longvid.evaluation.features import consistency_between_clips, consistency_in_clip
from longvid.evaluation.flicker import power_at_period, temporal_flicker
from longvid.evaluation.prompts import PromptScore, prompt_score
from longvid.evaluation.provenance import Cost, Provenance, Shot
from longvid.evaluation.scenes import Cuts, sort_cuts
from longvid.evaluation.seams import seam_ratio
from longvid.evaluation.signals import Signals
from longvid.evaluation.switches import switch_latency_seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """A film's values, None where one cannot be known. Their units stand in table.py."""

    cuts: Cuts | None
    flicker: float | None
    flicker_at_period: float | None
    motion: float | None
    drift: dict[str, float | None]
    """By statistic, mean over shots."""
    drift_per_minute: dict[str, float | None]
    seam_ratio: float | None
    seam_ratio_compensated: float | None
    seam_ratio_latents: float | None
    """To the change across the other latents' borders: a codec may have a period of its own."""
    switches: tuple[tuple[Fraction, float | None], ...]
    """(when it was asked for, its latency), both in seconds, of each switch."""
    consistency_in_clip: float | None
    consistency_between_clips: float | None
    prompts: tuple[PromptScore | None, ...]
    """Of each shot; empty without CLIP."""
    cost: Cost | None
    curves: dict[str, list[float | None]]
    """By metric, a value for each clip of two seconds."""

    @property
    def switch_latency(self) -> float | None:
        """Mean over the switches that were seen, in seconds."""
        return _mean([latency for _, latency in self.switches])

    @property
    def prompt(self) -> PromptScore | None:
        """Mean over shots."""
        known = [found for found in self.prompts if found is not None]
        margin = _mean([found.margin for found in known])
        return PromptScore(fmean(found.score for found in known), margin) if known else None

    @property
    def consistency(self) -> float | None:
        """By halves inside clips and from clip to clip."""
        if self.consistency_in_clip is None or self.consistency_between_clips is None:
            return None
        return (self.consistency_in_clip + self.consistency_between_clips) / 2


def score(
    signals: Signals, made: Provenance, texts: Mapping[str, NDArray[np.float32]] = MappingProxyType({})
) -> Scores:
    """What the signals of a film say of it, by how it was made. ``texts``: CLIP's embeddings of prompts."""
    planned, fps = made.planned, signals.fps
    shots = [replace(shot, end_frame=min(shot.end_frame, signals.frames)) for shot in made.shots]
    settled = [
        slice(min(shot.start_frame + shot.blend_frames, shot.end_frame), shot.end_frame) for shot in shots
    ]
    by_statistic = {name: [values[span] for span in settled] for name, values in signals.appearance.items()}
    borders = frozenset(made.borders or ())
    seams = {
        name: None if change is None else seam_ratio(change, borders, planned)
        for name, change in (("as it is", signals.change), ("compensated", signals.compensated_change))
    }
    elsewhere = frozenset(range(signals.frames)) - borders - made.latents
    period = None
    if made.chunk_frames is not None:
        period = power_at_period(signals.change, made.chunk_frames, (0, *made.cuts), planned)
    inside, between = _consistency(signals, shots)
    over_time = curves(signals, made)
    return Scores(
        cuts=None if signals.cuts is None else sort_cuts(signals.cuts, made.cuts, fps),
        flicker=temporal_flicker(signals.change, planned),
        flicker_at_period=period,
        motion=_mean(over_time.get("motion", [])),
        drift={name: _mean(list(map(drift, spans))) for name, spans in by_statistic.items()},
        drift_per_minute={
            name: _mean([slope_per_minute(values, fps) for values in spans])
            for name, spans in by_statistic.items()
        },
        seam_ratio=seams["as it is"],
        seam_ratio_compensated=seams["compensated"],
        seam_ratio_latents=seam_ratio(signals.change, borders, planned | elsewhere),
        switches=tuple(_switches(signals, shots)),
        consistency_in_clip=inside,
        consistency_between_clips=between,
        prompts=tuple(_prompts(signals, shots, texts)),
        cost=made.cost,
        curves=over_time,
    )


def curves(signals: Signals, made: Provenance) -> dict[str, list[float | None]]:
    """Values over time, one for each clip of two seconds: those of the film that a part of it has as well."""
    fps, planned = signals.fps, made.planned
    here = [frame for frame in planned if frame < signals.frames]
    change = signals.change.copy()
    change[here] = np.nan
    spans = clip_spans(signals.frames, fps)
    found = {
        "flicker": [value if value is None else (255 - value) / 255 for value in clip_means(change, fps)]
    }
    if signals.motion is not None:
        motion = signals.motion.copy()
        motion[here] = np.nan  # across a cut there is none
        found["motion"] = clip_means(motion, fps)
    found |= {name: clip_means(values, fps) for name, values in signals.appearance.items()}
    if made.borders is not None:
        found["seam_ratio"] = [
            seam_ratio(
                signals.change[start:end],
                {border - start for border in made.borders if start < border < end},
                {frame - start for frame in planned},
            )
            for start, end in spans
        ]
    if signals.cuts is not None:
        cuts = sort_cuts(signals.cuts, made.cuts, fps).unplanned
        found["cuts"] = [float(sum(start <= cut < end for cut in cuts)) for start, end in spans]
    if signals.features is not None:
        clips = _clips(signals)
        found["consistency"] = [consistency_in_clip(samples) for samples in clips]
    return found


def _clips(signals: Signals) -> list[NDArray[np.float32]]:
    """The samples [s d] of each clip of two seconds."""
    if signals.features is None:
        return []
    times, fps = signals.sample_times, float(signals.fps)
    return [
        signals.features[(times >= start / fps) & (times < end / fps)]
        for start, end in clip_spans(signals.frames, signals.fps)
    ]


def _consistency(signals: Signals, shots: Sequence[Shot]) -> tuple[float | None, float | None]:
    """Inside clips, and from clip to clip, of the clips that lie within one shot; mean over shots."""
    spans, clips = clip_spans(signals.frames, signals.fps), _clips(signals)
    inside, between = [], []
    for shot in shots:
        begin = shot.start_frame + shot.blend_frames
        own = [
            clip
            for (start, end), clip in zip(spans, clips, strict=False)
            if begin <= start and end <= shot.end_frame and len(clip)
        ]
        inside += [consistency_in_clip(clip) for clip in own]
        if own:
            between.append(consistency_between_clips(np.stack([clip.mean(axis=0) for clip in own])))
    return _mean(inside), _mean(between)


def _switches(signals: Signals, shots: Sequence[Shot]) -> list[tuple[Fraction, float | None]]:
    """Of each switch that flows: when it was asked for, and its latency."""
    found = []
    for last, following in pairwise(shots):
        if following.cut:
            continue
        latency = None
        if signals.features is not None:
            fps = float(signals.fps)
            latency = switch_latency_seconds(
                signals.features,
                signals.sample_times,
                (last.requested_frame / fps, following.requested_frame / fps),
                (following.requested_frame / fps, following.end_frame / fps),
            )
        found.append((following.requested_frame / signals.fps, latency))
    return found


def _prompts(
    signals: Signals, shots: Sequence[Shot], texts: Mapping[str, NDArray[np.float32]]
) -> list[PromptScore | None]:
    """Of each shot, by the frames behind its blend."""
    if signals.pictures is None:
        return []
    times, fps = signals.sample_times, float(signals.fps)
    found: list[PromptScore | None] = []
    for index, shot in enumerate(shots):
        begin = (shot.start_frame + shot.blend_frames) / fps
        own = signals.pictures[(times >= begin) & (times < shot.end_frame / fps)]
        before = texts.get(shots[index - 1].prompt) if index else None
        text = texts.get(shot.prompt)
        found.append(None if text is None else prompt_score(own, text, before))
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def as_json(scores: Scores, fps: Fraction) -> dict[str, Any]:
    """A film's values as plain data; times in seconds."""
    cuts = scores.cuts
    return {
        "scenes": cuts and cuts.scenes,
        "cuts_seconds": cuts and [float(cut / fps) for cut in cuts.unplanned],
        "planned_cuts_found_seconds": cuts and [float(cut / fps) for cut in cuts.planned],
        "flicker": scores.flicker,
        "flicker_at_chunk_period": scores.flicker_at_period,
        "motion": scores.motion,
        "drift": scores.drift,
        "drift_per_minute": scores.drift_per_minute,
        "seam_ratio": scores.seam_ratio,
        "seam_ratio_compensated": scores.seam_ratio_compensated,
        "seam_ratio_latents": scores.seam_ratio_latents,
        "switch_latency_seconds": scores.switch_latency,
        "switches": [
            {"at_seconds": float(at), "latency_seconds": latency} for at, latency in scores.switches
        ],
        "consistency": scores.consistency,
        "consistency_in_clip": scores.consistency_in_clip,
        "consistency_between_clips": scores.consistency_between_clips,
        "clip_score": scores.prompt and scores.prompt.score,
        "clip_margin": scores.prompt and scores.prompt.margin,
        "clip_by_shot": [found and asdict(found) for found in scores.prompts] or None,
        "evaluations_per_second": scores.cost and scores.cost.evaluations,
        "compute_seconds_per_second": scores.cost and scores.cost.seconds,
        "curves": scores.curves,
    }
