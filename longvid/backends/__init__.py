"""What a base model must be: a Geometry, and a few small Protocols. Torch-free at import.

Shapes use one alphabet: ``b`` batch, ``c`` channels, ``f`` latent frames, ``h w`` latent rows and columns,
``k`` units, ``p`` prompts, ``n`` text tokens, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from longvid.downloads import Download

Carry = dict[str, "Tensor"]
CodecPart = Literal["codec", "decoder"]
"""What of a codec is trained: all of it, or its decoder, under an encoder whose latents stay as they are."""


@dataclass(frozen=True)
class Geometry:
    """Sizes that a plan needs, without a weight being loaded.

    ``pixel_stride`` is the number of pixels a latent cell covers along each side; a picture's sides must be
    multiples of it. ``window_units`` is K of the paper: noisy chunks in the window. ``sizes`` are (width,
    height) in pixels, the first one the default; ``any_size`` says that others of the right stride work.
    """

    chunk_latents: int
    chunk_frames: int
    first_chunk_frames: int
    channels: int
    pixel_stride: int
    window_units: int
    steps: int
    guidance: float
    sizes: tuple[tuple[int, int], ...]
    any_size: bool
    fps: Fraction
    fps_min: Fraction
    fps_max: Fraction
    output_width_px: int
    """Smallest width that a film is shown at: `output.scale` is by default the least whole factor that
    reaches it (1 when the picture is that wide already)."""

    def chunk_frame_counts(self, chunks: int) -> list[int]:
        """Frames that each of a run's ``chunks`` chunks decodes to."""
        return [self.first_chunk_frames] * min(chunks, 1) + [self.chunk_frames] * max(chunks - 1, 0)

    def run_chunks(self, frames: int) -> int:
        """The least number of chunks whose frames reach ``frames`` (>= 1), counted from a run's start."""
        rest = max(frames - self.first_chunk_frames, 0)
        return 1 + -(-rest // self.chunk_frames)


class Text(Protocol):
    """Encoded prompts and the share that each unit takes of them; opaque to all but its backend."""

    def for_units(self, units: Sequence[int]) -> Text:
        """The texts of these units, in this order, holding only the prompts that these units use.

        So the numbers of a window depend on nothing outside it.
        """
        ...

    def null(self) -> Text:
        """The same units under no prompt, for classifier-free guidance (Ho & Salimans 2022)."""
        ...

    def single_prompts(self) -> Sequence[tuple[Text, Sequence[float]]]:
        """Each prompt that these units use, as a Text in which it is every unit's, with the units' shares.

        Read by `guidance.per_prompt`, for networks that take one text a sample.
        """
        ...


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts: embeddings [p n d] and mask [p n], True where a token counts."""

    embeddings: Tensor
    mask: Tensor


class TextEncoder(Protocol):
    def __call__(self, prompts: Sequence[str]) -> Prompts:
        """Encode each prompt alone (kernels depend on the batch's shape); "" is the null prompt."""
        ...

    def negative(self, prompt: str) -> Prompts:
        """What a shot shall not show [1 n d]: as a prompt, without what `model_options` append to one."""
        ...

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is too long for the model, and is not read; mostly ""."""
        ...


class Denoiser(Protocol):
    def __call__(self, x: Tensor, t: Tensor, text: Any) -> Tensor:
        """The network's prediction [b c f h w] for noisy latents x [b c f h w] at times t [b f] in [0, 1].

        The f latents are k units of equal length f / k in order, as `text` has them: the Text that the same
        film's `text` made. A picture stands in front as one latent more; the window then comes as units of
        one latent each (`guidance.starting_from`), which must give the numbers of whole units.
        """
        ...


class VideoCodec(Protocol):
    """A fold over chunks, so that it streams: the carry is saved with the state, if any."""

    def encode(self, video: Tensor) -> Tensor:
        """Latents [b c f h w] of frames [b 3 f h w] in [-1, 1], as many as some chunks decode to."""
        ...

    def encode_picture(self, picture: Tensor) -> Tensor:
        """The one latent [b c 1 h w] of a picture [b 3 h w] in [-1, 1]: of a film in which nothing moves."""
        ...

    def decode(self, chunk: Tensor, carry: Carry) -> tuple[Tensor, Carry]:
        """Frames [b 3 f h w] in [-1, 1] of one chunk [b c l h w], and what the next chunk needs.

        A run begins with an empty carry.
        """
        ...

    def flush(self, carry: Carry) -> Tensor | None:
        """Frames still held back at a run's end, or None."""
        ...


class Process(Protocol):
    """How a level becomes noise, and a prediction a step (processes.py)."""

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Paper eq. 2 at times t, broadcastable to clean; t = 0 is clean, 1 is pure noise."""
        ...

    def renoise(self, x: Tensor, noise: Tensor, t_from: Tensor, t_to: Tensor) -> Tensor:
        """x at t_from, noised up to t_to >= t_from."""
        ...

    def clock(self, t: Tensor) -> Tensor:
        """The time in which the path from clean to noise is straight; solvers measure their steps in it."""
        ...

    def slope(self, x: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """noise - clean, as the network's prediction at (x, t) has them: the path's direction."""
        ...

    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should have predicted at (add_noise(clean, noise, t), t): training's target."""
        ...

    def step(self, x: Tensor, slope: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        """x moved along the slope from t to t_next."""
        ...


class Trainee(Protocol):
    """A film's network as training has it, on the film's device, all parameters in float32, in train mode."""

    @property
    def network(self) -> nn.Module:
        """What an optimizer, DDP, FSDP and LoRA get. A parameter that asks for no gradient is not trained."""
        ...

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Its repeated parts, of one class: checkpointing recomputes, and FSDP shards, one at a time."""
        ...

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """The last parts of the names of the linear layers that a LoRA adapts unless told otherwise."""
        ...

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, texts: Sequence[Any]) -> Tensor:
        """The prediction [b c f h w], with gradients, for noisy latents x [b c f h w] at times t [b f].

        ``network``: this trainee's, however it is wrapped by now; it is called once, through its forward.
        ``texts``: one Text a sample, over the units of x, as the same film's `text` made it.
        """
        ...

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the model with these weights, by the names of `network`, as a folder that the backend loads.

        Weights that are not named are the model's own, and so is everything else in the folder.
        """
        ...


class CodecTrainee(Protocol):
    """A film's codec as training has it, on the film's device, all parameters in float32, in train mode."""

    @property
    def network(self) -> nn.Module:
        """What an optimizer, DDP and FSDP get. A parameter that asks for no gradient is not trained."""
        ...

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Its repeated parts, of one class: checkpointing recomputes, and FSDP shards, one at a time."""
        ...

    @property
    def latent_frames(self) -> int:
        """Frames in a latent: what is cut of a clip begins, and ends, at multiples of so many."""
        ...

    def reconstruct(
        self, network: nn.Module, frames: Tensor, noise: Tensor, heard: int
    ) -> tuple[Tensor, Tensor]:
        """Latents [b c f h w] of frames [b 3 f h w] in [-1, 1], and what is decoded of them once ``noise``
        [b c f h w] is added: both with gradients, in fp32.

        The first ``heard`` latents, 0 or 1, are those in front of what is decoded, and their own frames are
        not: with 0 a run begins here. ``network``: this trainee's, however it is wrapped by now; it is called
        once, through its forward.
        """
        ...

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the model with these weights, by the names of `network`, as a folder that the backend loads.

        Weights that are not named are those of `network`, and everything else in the folder is the model's.
        """
        ...


class Film(Protocol):
    """A backend loaded for one film's size, rate, device and dtype."""

    @property
    def process(self) -> Process: ...

    def schedule(self, level: Tensor) -> Tensor:
        """Time t in [0, 1] of a level / S in [0, 1]; increasing, 0 to 0 and 1 to 1."""
        ...

    def text_encoder(self) -> TextEncoder:
        """Loaded anew at each call and held by the caller only, so that dropping it frees its memory."""
        ...

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> Text:
        """Text over all units of the film: `mix` [k p] has each unit's shares of the prompts, rows sum to 1.

        `negatives`: of the prompts that have one, by their row, the encoded negative [1 n d] that stands in
        for the null prompt. Tensors come on the CPU.
        """
        ...

    def denoiser(self) -> Denoiser: ...

    def codec(self) -> VideoCodec: ...

    def trainee(self, fresh: int | None = None) -> Trainee:
        """The denoiser's network, loaded anew for training; with ``fresh``, a seed, untrained, its weights
        drawn from this. Raises UserError where there is none to train."""
        ...

    def codec_trainee(self, part: CodecPart, fresh: int | None = None) -> CodecTrainee:
        """The codec, loaded anew for training; with ``fresh``, a seed, what is trained of it is untrained.

        Raises UserError where the model's codec is not trained here.
        """
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights and options: a part of every chunk's identity."""
        ...


@dataclass(frozen=True)
class Lora:
    """A low-rank adaptation of the network (Hu et al. 2022): its folder or file, how strongly it acts (1: as
    it was trained), and what its content is known by (`lora.fingerprint`)."""

    path: Path
    strength: float
    fingerprint: str


@dataclass(frozen=True)
class FilmSpec:
    """What a model is loaded for: ``size`` (width, height) in pixels, ``fps``, ``window`` K, its options, and
    the LoRAs that its network's layers take on (`lora.adapting`)."""

    size: tuple[int, int]
    fps: Fraction
    window: int
    options: Mapping[str, Any]
    loras: tuple[Lora, ...] = ()


RESIDENT = "resident"


@dataclass(frozen=True)
class Rung:
    """One way to hold a film's networks, and the most memory that it takes on the device, in bytes (None
    where nobody knows). ``says``: what it does about memory, one clause for a person. ``exact``: the film has
    the same pixels as on the first rung, but for rounding. ``decodes_beside``: the codec may work while the
    denoiser does, in a thread of its own; else there is room for one of them at a time."""

    name: str
    peak_bytes: int | None
    says: str
    exact: bool = True
    decodes_beside: bool = True


@dataclass(frozen=True)
class Runtime:
    """How a film is computed. ``dtype``: the network's; latents and steps are fp32 always. ``rung``: the name
    of one of the backend's rungs. ``compile``: the network's blocks are compiled first."""

    device: torch.device
    dtype: torch.dtype
    rung: str = RESIDENT
    compile: bool = False


class Backend(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...

    @property
    def licence(self) -> str:
        """Of the weights, as a person should read it before using a film."""
        ...

    @property
    def expects(self) -> str:
        """What to expect of its films, one clause, where that is not plain: "" where it is."""
        ...

    @property
    def folder(self) -> Path:
        """Where its weights lie, or would."""
        ...

    @property
    def downloads(self) -> Sequence[Download]:
        """What `longvid models pull` fetches; empty where the weights come with the package."""
        ...

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise UserError for a wrong key or value of `model_options`."""
        ...

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the model cannot know, in order, without a weight being loaded."""
        ...

    def missing_files(self) -> list[str]:
        """Files that the weights lack, without one being read; empty where all are there."""
        ...

    def check_weights(self) -> list[str]:
        """What is wrong with the weights, a line each: missing, unexpected and misshapen tensors by name.

        Reads headers only. Raises UserError for a file that cannot be read.
        """
        ...

    def with_random_weights(self) -> Backend:
        """The same model without a file: random weights of the same sizes, random embeddings of prompts.

        It costs what the real one costs, so that `longvid bench` can measure it; its films are noise. Raises
        UserError where there is no use for it, as the weights come with the package.
        """
        ...

    def lora_layers(self) -> Mapping[str, tuple[int, int]]:
        """The linear layers of the denoiser by name, with their (outputs, inputs), which a LoRA may adapt.

        Without a weight being loaded. Empty where the model takes none: no film of it asks for one then.
        """
        ...

    def rungs(self, spec: FilmSpec, value_bytes: int) -> Sequence[Rung]:
        """Ways to hold the film's networks, the fastest first, none with more memory than the one before.

        ``value_bytes``: of one number in the network's dtype. The first one is RESIDENT; those that are not
        exact come last.
        """
        ...

    def for_film(self, spec: FilmSpec, runtime: Runtime) -> Film: ...


Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class BackendFactory(Protocol):
    """An entry point of the group ``longvid.backends``: called with None for the registered weights,
    or with a checkpoint's folder."""

    def __call__(self, folder: Path | None) -> Backend: ...
