"""A film's method, by name and options, and the walk through the window that it makes of a film. Torch-free.

    method = read("progressive:overlap=0,chunk=1")
    walk = Walk(method, runs=(45,), steps=16, window=4, chunk_latents=4)
    for step in walk.steps_in_order(): ...

A plan counts in chunks, which are decoded and saved as a whole; a walk in units, which are chunks, or single
latents where the method moves them one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

from longvid.document import show
from longvid.errors import UserError
from longvid.methods import (
    WindowStep,
    check_steps,
    diagonal_spans,
    diagonals,
    enter_in_groups,
    enter_progressive,
    enter_steps,
    windows,
)

MAX_OVERLAP = 8


@dataclass(frozen=True)
class Kind:
    """What `longvid plan --methods` and the documentation say of a method, and which options it takes."""

    says: str
    source: str
    options: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "progressive": Kind(
        "K chunks whose noise levels rise from front to back, behind a clean one",
        "Xie et al. 2024, sections 3.1 to 3.4",
        ("overlap", "chunk", "ending"),
    ),
    "replace": Kind(
        "K chunks at one level together, behind clean ones (RN); Open-Sora's own way on",
        "Xie et al. 2024, section 2.2; Zheng et al. 2024",
        ("overlap",),
    ),
    "replace-noised": Kind(
        "K chunks at one level together, behind finished ones noised to that level (RW)",
        "Ho et al. 2022, Video Diffusion Models, section 3.1; Xie et al. 2024, eq. 2",
        ("overlap",),
    ),
    "fifo": Kind(
        "a queue of single latents, each one level noisier than the one before it",
        "Kim et al. 2024, FIFO-Diffusion, sections 4.1 to 4.3",
        ("lookahead", "partitions"),
    ),
    "chained": Kind(
        "clips of K chunks, each from the last latent of the one before, as image models are chained",
        "Blattmann et al. 2023, Stable Video Diffusion; Xie et al. 2024, section 4.1",
    ),
}


@dataclass(frozen=True)
class Method:
    """A method of KINDS and its options.

    ``overlap``: finished chunks that are shown in front as context. ``chunk``: latents that move through the
    window together, where it is not a whole chunk: 1, one by one. ``ending``: at the film's end the window
    drains, or chunks that are thrown away keep it full. ``lookahead``, ``partitions``: FIFO's; None takes as
    many as bring its windows closest to the model's.
    """

    name: str = "progressive"
    overlap: int = 1
    chunk: Literal[1] | None = None
    ending: Literal["drain", "discard"] = "drain"
    lookahead: bool = True
    partitions: int | None = None

    def __str__(self) -> str:
        """As `read` reads it, without what is left at its default."""
        chosen = {
            field.name: value
            for field in fields(self)
            if field.name != "name" and (value := getattr(self, field.name)) != field.default
        }
        said = ",".join(f"{key}={str(value).lower()}" for key, value in chosen.items())
        return f"{self.name}:{said}" if said else self.name

    @property
    def by_latent(self) -> bool:
        """Whether its units are single latents."""
        return self.chunk == 1 or self.name in ("fifo", "chained")


def read(text: str) -> Method:
    """A method as it is written: ``fifo``, or with options ``progressive:overlap=0,chunk=1``. Raises
    UserError, one clause."""
    name, _, said = text.partition(":")
    name = name.strip()
    if name not in KINDS:
        near = get_close_matches(name, KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is: {', '.join(KINDS)}"
        raise UserError(f"no method {show(name)}; {hint}")
    method, known = Method(name), KINDS[name].options
    given: set[str] = set()
    for option in filter(None, (each.strip() for each in said.split(","))):
        key, equals, value = (part.strip() for part in option.partition("="))
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise UserError(f"{name} has no option {show(key)}; {takes}")
        if not equals:
            raise UserError(f"{name}: {key} has no value; write {key}=...")
        if key in given:
            raise UserError(f"{name}: {key} is there twice; keep one")
        given.add(key)
        method = replace(method, **{key: _value(name, key, value)})
    return method


def _value(name: str, key: str, value: str) -> Any:
    """An option's value. Raises UserError."""
    whole = int(value) if value.isdecimal() else None
    match key:
        case "overlap" if whole is not None and whole <= MAX_OVERLAP:
            return whole
        case "overlap":
            wanted = f"a number of chunks, 0 to {MAX_OVERLAP}"
        case "chunk" if whole == 1:
            return 1
        case "chunk":
            wanted = "1, or left out for the model's own"
        case "ending" if value in ("drain", "discard"):
            return value
        case "ending":
            wanted = "drain or discard"
        case "lookahead" if value in ("true", "false"):
            return value == "true"
        case "lookahead":
            wanted = "true or false"
        case _ if whole:
            return whole
        case _:
            wanted = "a number of partitions, at least 1"
    raise UserError(f"{name}: {key}={value} is not {wanted}")


@dataclass(frozen=True)
class Walk:
    """A film's way through the window. ``runs``: chunks in each run; ``steps``: S; ``window``: K, in chunks;
    ``chunk_latents``: l. ``given``: chunks at the film's start that are clean from the beginning, a clip's;
    ``noised``: chunks behind them that are there as well, and are noised and made anew."""

    method: Method
    runs: tuple[int, ...]
    steps: int
    window: int
    chunk_latents: int
    given: int = 0
    noised: int = 0

    def check(self) -> None:
        """Raise UserError, one clause, where this method cannot make this film."""
        method = self.method
        if self.noised and method.name != "progressive":
            raise UserError(f"method {method.name} takes no noised chunks over; only progressive does")
        if self.noised and method.overlap > 1:
            raise UserError("noised chunks are taken over behind one clean one: overlap=1, or 0")
        if method.ending == "discard" and len(self.runs) > 1:
            raise UserError("ending=discard is for films without cuts")
        if method.name == "progressive":
            check_steps(self.steps, self.window * self.parts, "latents" if self.parts > 1 else "chunks")
        if method.name == "fifo":
            self.partitions  # noqa: B018  it is looked for, and found or not

    @property
    def parts(self) -> int:
        """Units in a chunk."""
        return self.chunk_latents if self.method.by_latent else 1

    @property
    def units(self) -> int:
        """Of the film, those beyond its end included."""
        return sum(self._units)

    @property
    def unit_latents(self) -> int:
        return self.chunk_latents // self.parts

    def chunk(self, unit: int) -> int:
        """The chunk that a unit is of; one that only fills the window at the film's end is as the last."""
        return min(unit // self.parts, sum(self.runs) - 1)

    @property
    def context_chunks(self) -> int:
        """Chunks whose latents may be read in front of those that come behind them."""
        if self.method.name in ("fifo", "chained"):
            return -(-self.context_units // self.parts)
        return self.method.overlap

    @property
    def context_units(self) -> int:
        match self.method.name:
            case "chained":
                return 1
            case "fifo":
                return self.steps // self.partitions // 2 * self.method.lookahead
            case _:
                return self.method.overlap * self.parts

    @cached_property
    def partitions(self) -> int:
        """n of FIFO: S = n f, with f even where it looks ahead; f near the window's latents unless told."""
        half = 2 if self.method.lookahead else 1
        fitting = [n for n in range(1, self.steps + 1) if self.steps % (n * half) == 0]
        if self.method.partitions in fitting:
            return self.method.partitions or 1
        latents = self.window * self.chunk_latents
        if self.method.partitions is not None or not fitting:
            said = f"{self.steps} steps cannot be {self.method.partitions or 1} partitions"
            even = " of evenly many latents" if self.method.lookahead else ""
            raise UserError(f"fifo: {said}{even}; try {', '.join(map(str, fitting)) or 'even steps'}")
        return min(fitting, key=lambda n: (abs(self.steps // n - latents), n))

    @property
    def _beyond(self) -> int:
        """Units behind the film's last one, which only keep the window full."""
        return (self.window * self.parts - 1) * (self.method.ending == "discard")

    @cached_property
    def _units(self) -> tuple[int, ...]:
        """Units of each run, those beyond its end included."""
        *before, last = (chunks * self.parts for chunks in self.runs)
        return (*before, last + self._beyond)

    @cached_property
    def _entered(self) -> tuple[int, ...]:
        """enter(i) of every unit, where it is a line."""
        in_groups = self.method.name in ("replace", "replace-noised", "chained")
        return enter_steps(
            enter_in_groups if in_groups else enter_progressive,
            self._units,
            self.steps,
            self.window * self.parts,
            self.given * self.parts,
            self.noised * self.parts,
        )

    def __iter__(self) -> Iterator[WindowStep]:
        """The film's evaluations, which may be gone over again."""
        return self.steps_in_order()

    def steps_in_order(self) -> Iterator[WindowStep]:
        """The film's evaluations."""
        if self.method.name == "fifo":
            n = self.partitions
            yield from diagonals(
                self._units,
                n,
                self.steps // n,
                lookahead=self.method.lookahead,
                given=self.given * self.parts,
            )
            return
        yield from windows(
            self._entered,
            self._units,
            self.steps,
            overlap=self.context_units,
            noised_context=self.method.name == "replace-noised",
            beyond=self._beyond,
        )

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        """(step at which it enters, step behind the one that finishes it) of every unit of a FIFO film."""
        n, given = self.partitions, self.given * self.parts
        return diagonal_spans(self._units, n, self.steps // n, lookahead=self.method.lookahead, given=given)

    @cached_property
    def enter(self) -> tuple[int, ...]:
        """The global step at which each chunk's first unit enters; before 0 for what is there already."""
        chunks = sum(self.runs)
        firsts = range(0, chunks * self.parts, self.parts)
        if self.method.name == "fifo":
            return tuple(self._spans[unit][0] for unit in firsts)
        return tuple(self._entered[unit] for unit in firsts)

    @cached_property
    def leave(self) -> tuple[int, ...]:
        """The global step before which each chunk's last unit is finished."""
        chunks = sum(self.runs)
        lasts = range(self.parts - 1, chunks * self.parts, self.parts)
        if self.method.name == "fifo":
            return tuple(self._spans[unit][1] for unit in lasts)
        return tuple(self._entered[unit] + self.steps for unit in lasts)
