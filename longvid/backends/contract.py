"""What every backend must pass, whoever wrote it.

    from longvid.backends.contract import check_backend

    def test_my_backend() -> None:
        check_backend(my_package.backend(None))

An AssertionError says what is wrong. The checks need a network whose output depends on its input: initialise
the last layer of an untrained one with more than zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from longvid.backends import (
    RESIDENT,
    Backend,
    Carry,
    Film,
    FilmSpec,
    Geometry,
    Runtime,
    VideoCodec,
)
from longvid.backends.network_contract import (
    PROMPTS,
    check_denoiser,
    check_starts,
    check_text,
    check_trainee,
    random_window,
    require,
    require_close,
)
from longvid.denoise import denoise, fresh
from longvid.errors import UserError
from longvid.guidance import classifier_free
from longvid.lora import WEIGHTS, named
from longvid.noise import noise, per_unit
from longvid.processes import euler
from longvid.walks import Method, Walk


def check_backend(
    backend: Backend,
    *,
    size: tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> None:
    """Raise AssertionError where the backend breaks one of the Protocols of `longvid.backends`.

    ``size``: width and height in pixels, the smallest of the geometry's by default. ``options``: model
    options to load it with. Runs in fp32; takes about 50 evaluations of the network, and a little decoding.
    """
    geometry = backend.geometry
    check_geometry(geometry)
    size = size or min(geometry.sizes, key=lambda sides: sides[0] * sides[1])
    check_declarations(backend, size)
    spec = FilmSpec(size, geometry.fps, geometry.window_units, options or {})
    runtime = Runtime(torch.device(device), torch.float32)

    def load() -> Film:
        return backend.for_film(spec, runtime)

    film = load()
    with torch.inference_mode():
        check_schedule(film, geometry.steps)
        check_process(film)
        check_denoiser(film, geometry, size, device)
        check_text(film, geometry, size, device)
        check_starts(film, geometry, size, device)
        check_codec(film.codec(), geometry, size, device)
        check_same_again(film, load(), geometry, size, device)
        check_loras(backend, spec, runtime)
    check_trainee(film, geometry, size, device)
    check_independence(film, geometry, size, device)


def check_geometry(geometry: Geometry) -> None:
    """Every number is possible, and the defaults fit each other."""
    for name in ("chunk_latents", "chunk_frames", "first_chunk_frames", "channels", "pixel_stride"):
        require(getattr(geometry, name) >= 1, f"geometry.{name} must be at least 1")
    require(geometry.window_units >= 1, "geometry.window_units must be at least 1")
    require(
        geometry.steps >= 1 and geometry.steps % geometry.window_units == 0,
        f"geometry.steps {geometry.steps} must be a multiple of window_units {geometry.window_units}",
    )
    require(len(geometry.sizes) > 0, "geometry.sizes is empty: name at least the default size")
    for width, height in geometry.sizes:
        require(
            width > 0 and height > 0 and width % geometry.pixel_stride == height % geometry.pixel_stride == 0,
            f"geometry.sizes: {width}x{height} is not a multiple of pixel_stride {geometry.pixel_stride}",
        )
    require(
        0 < geometry.fps_min <= geometry.fps <= geometry.fps_max, "geometry: fps_min <= fps <= fps_max fails"
    )


def check_declarations(backend: Backend, size: tuple[int, int]) -> None:
    """What a plan asks of a backend before a weight is loaded."""
    require(bool(backend.name), "backend.name is empty")
    backend.check_options({})
    try:
        backend.check_options({"no such option, surely": 1})
    except UserError as error:
        require("\n" not in str(error), f"check_options must say it in one line, said: {error}")
    else:
        raise AssertionError("check_options accepts an unknown key; it must raise UserError")
    unknown = backend.unknown_words(PROMPTS[0])
    require(
        set(unknown) <= set(PROMPTS[0].split()), f"unknown_words returns words not in the prompt: {unknown}"
    )
    missing = backend.missing_files()
    require(not missing, f"missing_files() names {missing}; a film cannot be loaded without")
    wrong = backend.check_weights()
    require(not wrong, f"check_weights() says {wrong}")
    try:
        random = backend.with_random_weights()
    except UserError as error:
        require("\n" not in str(error), f"with_random_weights must say it in one line, said: {error}")
    else:
        require(random.geometry == backend.geometry, "with_random_weights() has another geometry")
        require(not random.missing_files(), "with_random_weights() needs files")
    rungs = backend.rungs(FilmSpec(size, backend.geometry.fps, backend.geometry.window_units, {}), 4)
    require(rungs[0].name == RESIDENT, f"the first of rungs(...) must be {RESIDENT!r}, is {rungs[0].name!r}")
    require(len({rung.name for rung in rungs}) == len(rungs), "rungs(...) names two ways to hold it the same")
    for above, below in pairwise(rungs):
        require(above.exact or not below.exact, f"rung {below.name!r} is exact: it must come before")
    for rung in rungs:
        require(
            rung.peak_bytes is None or rung.peak_bytes > 0,
            f"rung {rung.name!r} takes {rung.peak_bytes} bytes; None is the value for not known",
        )


def check_schedule(film: Film, steps: int) -> None:
    """Levels rise from 0 to 1, and so do their times."""
    times = film.schedule(torch.arange(steps + 1) / steps)
    require(times.shape == (steps + 1,), f"schedule changes the shape of its input to {tuple(times.shape)}")
    require(bool((times.diff() > 0).all()), f"schedule must rise strictly, gives {times.tolist()}")
    require(times[0] == 0, f"schedule(0) is {times[0]:.6g}, must be 0: a finished chunk is clean")
    require(
        abs(times[-1] - 1) < 1e-6, f"schedule(1) is {times[-1]:.6g}, must be 1: a new chunk is pure noise"
    )


def check_process(film: Film) -> None:
    """Noising and stepping are two ways along the same path."""
    process = film.process
    clean, more = (noise(0, unit, 0, (1, 2, 3, 4, 4)) for unit in (0, 1))
    zero, t = torch.tensor(0.0), torch.tensor([0.2, 0.5, 0.9]).view(1, 1, 3, 1, 1)
    noisy = process.add_noise(clean, more, t)
    require(
        torch.equal(process.add_noise(clean, more, zero), clean), "process.add_noise at t = 0 is not clean"
    )
    require_close(process.renoise(clean, more, zero, t), noisy, "process.renoise from 0 is not add_noise")
    require(torch.equal(process.renoise(noisy, more, t, t), noisy), "process.renoise to the same t moves x")
    require_close(
        process.step(noisy, more - clean, t, zero), clean, "process.step with the true slope misses"
    )
    clock = process.clock(torch.linspace(0, 1, 11))
    require(
        bool((clock.diff() > 0).all()) and clock[0] == 0, f"process.clock must rise from 0, gives {clock}"
    )


def check_codec(codec: VideoCodec, geometry: Geometry, size: tuple[int, int], device: str) -> None:
    """Frame counts are the geometry's, and the carry is all that a decoder knows of the past."""
    chunks = 3
    x, _ = random_window(geometry, size, device, chunks)
    pieces = x.chunk(chunks, dim=2)
    counts = geometry.chunk_frame_counts(chunks)
    carries: list[Carry] = [{}]
    shown: list[Tensor] = []
    for piece in pieces:
        frames, carry = codec.decode(piece, _copy(carries[-1]))
        require(
            frames.shape[:2] == (1, 3) and frames.shape[3:] == (size[1], size[0]),
            f"decoded frames have shape {tuple(frames.shape)}; [1 3 f {size[1]} {size[0]}] is the film's",
        )
        shown.append(frames)
        carries.append(carry)
    rest = codec.flush(_copy(carries[-1]))
    lengths = [frames.shape[2] for frames in shown]
    if rest is None:
        require(lengths == counts, f"chunks decode to {lengths} frames, the geometry says {counts}")
    else:
        total = sum(lengths) + rest.shape[2]
        require(total == sum(counts), f"{chunks} chunks and the flush give {total} frames, not {sum(counts)}")

    # A saved carry is where a film goes on from, whatever was decoded since: so backwards.
    for k in reversed(range(chunks)):
        again, _ = codec.decode(pieces[k], _copy(carries[k]))
        require(
            torch.equal(again, shown[k]),
            f"chunk {k} decoded again from a copy of its carry differs: the codec remembers something "
            "outside the carry, or changes the carry in place",
        )

    for k in range(1, chunks + 1):
        video = torch.linspace(-1, 1, sum(counts[:k]), device=device).view(1, 1, -1, 1, 1)
        latents = codec.encode(video.expand(1, 3, -1, size[1], size[0]).contiguous())
        expected = (1, geometry.channels, k * geometry.chunk_latents, *x.shape[3:])
        require(
            tuple(latents.shape) == expected,
            f"{sum(counts[:k])} frames encode to latents {tuple(latents.shape)}, not {expected}",
        )


def check_same_again(film: Film, again: Film, geometry: Geometry, size: tuple[int, int], device: str) -> None:
    """Loaded twice, a backend is the same model: the fingerprint says so, and the numbers do."""
    require(
        len(film.fingerprint) == 64, f"film.fingerprint must be a SHA-256 in hex, is {film.fingerprint!r}"
    )
    require(film.fingerprint == again.fingerprint, "film.fingerprint changes from one load to the next")
    x, t = random_window(geometry, size, device, units=1)
    first, second = (
        each.denoiser()(x, t, each.text(each.text_encoder()(PROMPTS[:1]), {}, torch.ones(1, 1)))
        for each in (film, again)
    )
    require(
        torch.equal(first, second), "loaded twice, the network gives different numbers: are weights random?"
    )


def check_loras(backend: Backend, spec: FilmSpec, runtime: Runtime) -> None:
    """A LoRA of every layer that may have one is taken on, and with strength 0 changes nothing."""
    sizes = backend.lora_layers()
    if not sizes:
        return
    x, t = random_window(backend.geometry, spec.size, str(runtime.device), units=1)

    def predicted(spec: FilmSpec) -> Tensor:
        film = backend.for_film(spec, runtime)
        text = film.text(film.text_encoder()(PROMPTS[:1]), {}, torch.ones(1, 1))
        return film.denoiser()(x, t, text)

    with TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS
        save_file(
            {
                f"{layer}.lora_{side}.weight": noise(0, place, 0, shape) / 10
                for place, (layer, (outputs, inputs)) in enumerate(sizes.items())
                for side, shape in (("A", (1, inputs)), ("B", (outputs, 1)))
            },
            file,
        )
        plain, still, adapted = (
            predicted(replace(spec, loras=loras)) for loras in ((), (named(file, 0.0),), (named(file, 1.0),))
        )
    require(torch.equal(still, plain), "a LoRA of strength 0 changes the network's numbers")
    require(
        not torch.equal(adapted, plain),
        "lora_layers() names layers, and for_film ignores spec.loras: `lora.adapting` makes a weight of each",
    )


def check_independence(film: Film, geometry: Geometry, size: tuple[int, int], device: str) -> None:
    """A short film end to end: a unit that left the window before another entered knows nothing of it."""
    window = geometry.window_units
    units = window + 2
    shape = (
        geometry.channels,
        geometry.chunk_latents,
        size[1] // geometry.pixel_stride,
        size[0] // geometry.pixel_stride,
    )
    encoded = film.text_encoder()(PROMPTS)

    def render(last: tuple[float, float]) -> list[Tensor]:
        text = film.text(encoded, {}, torch.tensor([(1.0, 0.0)] * (units - 1) + [last]))
        states = denoise(
            Walk(Method(), (units,), window, window, geometry.chunk_latents).steps_in_order(),
            fresh(shape, torch.device(device)),
            predict=classifier_free(film.denoiser(), text, [1.0] * units),
            schedule=film.schedule,
            process=film.process,
            solver=euler,
            total_levels=window,
            noise=per_unit([0] * units, shape),
        )
        return [unit.latents for _, finished in states for unit in finished]

    one, other = render((1.0, 0.0)), render((0.0, 1.0))
    for unit in range(units - window):
        require(
            torch.equal(one[unit], other[unit]),
            f"another prompt for unit {units - 1} changes unit {unit}, finished before that one entered",
        )
    require(not torch.equal(one[-1], other[-1]), f"another prompt for unit {units - 1} does not change it")


def _copy(carry: Carry) -> Carry:
    return {name: tensor.clone() for name, tensor in carry.items()}
