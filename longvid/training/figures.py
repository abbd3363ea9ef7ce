"""The figures that diorama's strength is told in, what is asked of them, and their tables for a model's card.

Of what `strength` has seen of its films.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from longvid.backends.diorama.captions import VALUES, Spec
from longvid.evaluation.band import band

if TYPE_CHECKING:
    from numpy.typing import NDArray

PSNR_DB = 32.0
"""Of the codec, asked at least."""
SEAM_RATIO = 1.15
"""Asked at most."""
EMPTY = "no object"
"""That none is shown where none is asked for."""
SHARES = {"scene": 0.95, "time": 0.95, "weather": 0.95, "shape": 0.80, "color": 0.85, "motion": 0.70}
"""How often what a prompt names is shown, asked at least."""
COUNTED = tuple(SHARES)
"""What every prompt names, where it is there to be named. The rest one may name, and another for the same
world not."""
COMPARED = (*COUNTED, EMPTY)
"""Of films' ends: what either prompt for a world names."""
FALL = 0.03
"""By how much less often in a film's last prompt than in its first, asked at most."""
APART = 0.25
"""How far from 1 the change from frame to frame may be, over the world's."""
COMPUTE_SECONDS = 60.0
"""For a minute of film, asked at most."""

CERTAIN = 1.96
"""Standard deviations of a normal distribution, within which 95 % of it lie."""
WINDOWS = 6
"""Of a minute, ten seconds each."""
DEVIATIONS, LEAST_SHARE = 2.0, 0.01
"""How far from the first minute's mean a later one may be: by deviations of its windows, and by a share of
that mean, whichever is more. Windows of a still film hardly deviate."""
LEAST_ERROR = 1e-10


def known(values: Iterable[float | None]) -> list[float]:
    """Those that are."""
    return [value for value in values if value is not None]


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    some = known(values)
    return fmean(some) if some else None


def psnr(
    shown: NDArray[np.uint8], true: NDArray[np.uint8], counted: NDArray[np.bool_] | None = None
) -> float:
    """In dB, of frames [f h w 3], by all pixels or those ``counted`` [f h w]; 100 where these are equal."""
    squares = np.square((shown.astype(np.float32) - true) / 255).mean(axis=3)
    error = float((squares if counted is None else squares[counted]).mean(dtype=np.float64))
    return float(-10 * np.log10(max(error, LEAST_ERROR)))


@dataclass(frozen=True)
class Followed:
    """What became of a prompt, behind its settling. ``said``: what it names. ``clips``: what the judge names
    in each two seconds. ``change``: the mean from frame to frame, of 255, and ``world_change``, that of the
    world itself for the same."""

    said: Spec
    clips: Sequence[Spec]
    change: float
    world_change: float

    @property
    def weather(self) -> str:
        return tuple(VALUES["weather"])[self.said["weather"] or 0]

    @property
    def shares(self) -> dict[str, float]:
        """Of all that it names, in how many of the clips it is shown; EMPTY, where it names no object."""
        wanted = {name: value for name, value in self.said.items() if value is not None}
        found = {name: fmean(clip[name] == value for clip in self.clips) for name, value in wanted.items()}
        if "shape" not in wanted:
            found[EMPTY] = fmean(clip["shape"] is None for clip in self.clips)
        return found


Films = Sequence[Sequence[Followed]]
"""Of each film its prompts in turn. Every second film asks for the worlds of the one before, in reverse."""


def measure_following(films: Films) -> dict[str, Any]:
    """By attribute the mean share over all ``prompts`` that name it, with its 95 % interval, and over films'
    first and last ones; and by how much the last is followed better than the first, by the mean of what each
    names, over pairs of films: what one begins with, the other ends with. Ends are told of COMPARED alone."""
    attributes: dict[str, Any] = {}
    shares = [[prompt.shares for prompt in film] for film in films]
    worlds = [
        world
        for film, twin in zip(shares[::2], shares[1::2], strict=True)
        for world in zip(film, reversed(twin), strict=True)
    ]
    for name in (*VALUES, EMPTY):
        every = [prompt[name] for film in shares for prompt in film if name in prompt]
        trials = sum(any(name in prompt for prompt in world) for world in worlds)
        low, high = interval(fmean(every), trials) if every else (None, None)
        first, last = (mean(film[end].get(name) for film in shares if name in COMPARED) for end in (0, -1))
        attributes[name] = {"share": mean(every), "low": low, "high": high, "prompts": len(every)}
        attributes[name] |= {"first": first, "last": last}
    rises = [_followed(film[-1]) - _followed(film[0]) for film in shares]
    over_first = band([fmean(pair) for pair in zip(rises[::2], rises[1::2], strict=True)])
    return {"attributes": attributes, "last_over_first": over_first and asdict(over_first)}


def _followed(shares: Mapping[str, float]) -> float:
    return fmean(share for name, share in shares.items() if name in COMPARED)


def interval(share: float, trials: int) -> tuple[float, float]:
    """Where a share of so many trials lies, 95 % sure (Wilson 1927). A world is one trial, however many
    prompts ask for it and clips show it, since they go together."""
    squared = CERTAIN**2 / trials
    middle = (share + squared / 2) / (1 + squared)
    reach = CERTAIN * sqrt(share * (1 - share) / trials + squared / (4 * trials)) / (1 + squared)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def measure_motion(films: Films) -> dict[str, Any]:
    """Change from frame to frame over the world's: of ``all`` prompts, each film's, and each weather's.

    Where an object fades by half, so does the change that it makes, and where rain stands still nearly all
    goes; optical flow is as long for a faint object as for a strong one. By weather, since the change that
    rain makes hides an object's. None where the world stands still.
    """

    def ratio(prompts: Sequence[Followed]) -> float | None:
        world = sum(one.world_change for one in prompts)
        return sum(one.change for one in prompts) / world if world else None

    every = [prompt for film in films for prompt in film]
    by_weather = {name: [one for one in every if one.weather == name] for name in VALUES["weather"]}
    return {
        "all": ratio(every),
        "films": [ratio(film) for film in films],
        "weather": {name: ratio(some) for name, some in by_weather.items() if some},
    }


def measure_drift(statistics: Mapping[str, NDArray[np.float64]], window_frames: int) -> dict[str, Any]:
    """Of each statistic, a value a frame (nan: not known), the means of whole ``minutes``, and which of them,
    counted from 0, are ``beyond`` the first one's spread: further from it than ``reach``, two standard
    deviations (n - 1) of its windows of ten seconds, or a hundredth of itself where that is more."""
    found = {}
    for name, values in statistics.items():
        minutes = len(values) // (window_frames * WINDOWS)
        windows = values[: minutes * WINDOWS * window_frames].reshape(minutes, WINDOWS, window_frames)
        means = np.nanmean(windows, axis=2)
        by_minute = means.mean(axis=1)
        reach = max(DEVIATIONS * float(means[0].std(ddof=1)), LEAST_SHARE * abs(float(by_minute[0])))
        beyond = np.flatnonzero(np.abs(by_minute - by_minute[0]) > reach)
        found[name] = {"minutes": by_minute.tolist(), "reach": reach, "beyond": beyond.tolist()}
    return found


# Tables


def card(report: Mapping[str, Any]) -> str:
    """A report in Markdown."""
    asked = _table(("", "measured", "asked", "met"), [*_of_codec(report["codec"]), *_of_films(report)])
    shown = _table(
        ("", "shown", "95 % sure", "prompts", "the judge", "first 10 s", "last 10 s", "asked", "met"),
        _of_prompts(report["following"], report["judge"]),
    )
    said = (
        f"What {report['films']} films of six prompts, 10 s each, show of them, by clips of 2 s behind the "
        "first 2 s of each. The judge: how often it is right itself, of the world's own clips as the codec "
        "gives them back. 95 % sure: Wilson's interval, a world, which is asked for twice, being one trial."
    )
    return f"{asked}\n{said}\n\n{shown}"


def _of_codec(codec: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for how, name in (("plain", "codec"), ("eased", "the same, eased as films are")):
        found = codec["psnr"][how]
        what = f"{name}: PSNR of {codec['clips']} held-out clips, mean / worst / inside objects' boxes"
        said = " / ".join(_figure(found[part]) for part in ("mean", "worst", "objects"))
        rows.append((what, f"{said} dB", f"{PSNR_DB:g} dB", _met(found["mean"] >= PSNR_DB)))
    seams = codec["seams"]
    what = "seam ratio between latents, world's own clips / given back / eased"
    said = " / ".join(_figure(seams[how]) for how in ("world", "plain", "eased"))
    return [*rows, (what, said, f"at most {SEAM_RATIO:g}", _met(_smooth(seams["eased"])))]


def _of_films(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    seams, motion, drift, compute = (report[key] for key in ("seams", "motion", "drift", "compute"))
    rise = report["following"]["last_over_first"]
    sure = "" if rise["low"] is None else f" ({100 * rise['low']:+.1f} to {100 * rise['high']:+.1f})"
    moved = known(motion["films"])
    weather = ", ".join(f"{name} {_figure(ratio)}" for name, ratio in motion["weather"].items())
    near = f"{1 - APART:g} to {1 + APART:g}"
    steps = known(step for film in report["switches"] for step in film)
    statistics = [found for film in drift for found in film["statistics"].items()]
    beyond = [name for name, found in statistics if found["beyond"]]
    stayed = sum(len(found["minutes"]) - 1 in found["beyond"] for _, found in statistics)
    return [
        (
            "seam ratio of films before encoding, between latents / between chunks",
            f"{_figure(seams['latents'])} / {_figure(seams['chunks'])}",
            f"at most {SEAM_RATIO:g}",
            _met(all(map(_smooth, seams.values()))),
        ),
        (
            "change from frame to frame over the world's, all films / each",
            f"{_figure(motion['all'])} / {_figure(min(moved, default=None))}"
            f" to {_figure(max(moved, default=None))}",
            near,
            _met(all(map(_as_the_world, motion["films"]))),
        ),
        (
            "the same by weather",
            weather,
            near,
            _met(all(map(_as_the_world, motion["weather"].values()))),
        ),
        (
            "change at a new prompt over the film's median, median / largest",
            f"{_figure(median(steps) if steps else None)} / {_figure(max(steps, default=None))}",
            "",
            "",
        ),
        (
            f"{len(drift)} films of ten minutes: statistics beyond their first minute's spread, in any minute"
            " / in the last",
            f"{len(beyond)} / {stayed} of {len(statistics)}"
            + f" ({', '.join(dict.fromkeys(beyond))})" * bool(beyond),
            "none",
            _met(not beyond),
        ),
        (
            "the last prompt over the first, over what every prompt names",
            f"{100 * rise['mean']:+.1f} points{sure}",
            f"{-100 * FALL:+g} points",
            _met(rise["mean"] >= -FALL),
        ),
        (
            f"60 s of film (threads: {compute['threads']})",
            f"{compute['seconds']:.1f} s of compute",
            f"{COMPUTE_SECONDS:g} s",
            _met(compute["seconds"] <= COMPUTE_SECONDS),
        ),
    ]


def _of_prompts(following: Mapping[str, Any], judge: Mapping[str, float]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, found in following["attributes"].items():
        if found["prompts"]:
            share, low, high, first, last = (
                _percent(found[key]) for key in ("share", "low", "high", "first", "last")
            )
            right = _percent(judge.get(name))  # never measured of EMPTY
            wanted = SHARES.get(name)
            asked = ("", "") if wanted is None else (_percent(wanted), _met(found["share"] >= wanted))
            rows.append((name, share, f"{low} to {high}", str(found["prompts"]), right, first, last, *asked))
    return rows


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (heading, ("---",) * len(heading), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _smooth(seams: float | None) -> bool:
    return seams is not None and seams <= SEAM_RATIO


def _as_the_world(ratio: float | None) -> bool:
    return ratio is not None and abs(ratio - 1) <= APART


def _met(met: bool) -> str:
    return "yes" if met else "no"
