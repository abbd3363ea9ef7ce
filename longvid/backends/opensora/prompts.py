"""What Open-Sora's text encoder is told: a prompt with its scores behind it, cleaned. Torch-free.

Open-Sora v1.2 was trained on captions that end in labels, such as "aesthetic score: 6.5. motion score: 5.0.
camera motion: pan right.", and that were cleaned as PixArt's are.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from longvid.document import show
from longvid.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentencepiece import SentencePieceProcessor

AESTHETIC = (1.0, 10.0)
"""The labels' range; most of the training clips lie in 4 to 7."""
MOTION = (0.0, 100.0)
"""Optical flow of the training clips; 5 is lively."""
CAMERAS = ("pan right", "pan left", "tilt up", "tilt down", "zoom in", "zoom out", "static")
"""The names that training clips were labelled with."""

VOCABULARY = "spiece.model"
"""T5's, a file of its folder."""

TextEncoderChoice = Literal["auto", "cpu", "8bit", "4bit"]


@dataclass(frozen=True)
class Scores:
    """The labels behind every prompt; None leaves one out."""

    aesthetic: float | None = 6.5
    motion: float | None = None
    camera: str | None = None


@dataclass(frozen=True)
class Options:
    """Open-Sora's ``model_options``.

    ``text_encoder``: "auto" runs T5 in fp32 where it fits, "cpu" never on the card, "8bit" and "4bit" on the
    card with rounded weights.
    """

    scores: Scores = Scores()
    text_encoder: TextEncoderChoice = "auto"


def read_options(options: Mapping[str, Any]) -> Options:
    """``model_options`` of a timeline. Raises UserError for a wrong key or value, with the nearest fix."""
    known = ("aesthetic", "motion", "camera", "text_encoder")
    for key in options:
        if key not in known:
            raise UserError(f"model_options.{key}: Open-Sora has no such option; {_nearest(key, known)}")
    default = Scores()
    scores = Scores(
        aesthetic=_score("aesthetic", options.get("aesthetic", default.aesthetic), *AESTHETIC),
        motion=_score("motion", options.get("motion", default.motion), *MOTION),
        camera=options.get("camera", default.camera),
    )
    if scores.camera is not None and scores.camera not in CAMERAS:
        fix = f"{_nearest(scores.camera, CAMERAS)}; null leaves it out"
        raise UserError(f"model_options.camera: no camera motion {show(scores.camera)}; {fix}")
    text_encoder = options.get("text_encoder", "auto")
    choices = get_args(TextEncoderChoice)
    if text_encoder not in choices:
        fix = _nearest(text_encoder, choices)
        raise UserError(f"model_options.text_encoder: no way to run it {show(text_encoder)}; {fix}")
    return Options(scores, text_encoder)


def _score(key: str, value: object, low: float, high: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        problem = f"{show(value)} is no number"
    elif not low <= value <= high:  # written so that a NaN is out of range as well
        problem = f"{show(value)} is out of range"
    else:
        return float(value)
    raise UserError(f"model_options.{key}: {problem}; {low:g} to {high:g}, or null to leave it out")


def _nearest(wrong: object, known: Sequence[str]) -> str:
    near = get_close_matches(str(wrong), known, n=1)
    return f"did you mean {near[0]}?" if near else f"there is: {', '.join(known)}"


# From a person's prompt to the encoder's


def prepare(prompt: str, scores: Scores) -> str:
    """The prompt as the text encoder gets it; "" stays the null prompt.

    Raises UserError where the packages that clean it are missing, or the HTML in it is broken.
    """
    return clean(append_scores(prompt, scores)) if prompt else ""


def append_scores(text: str, scores: Scores) -> str:
    """The text with each label that it does not have already, one decimal each (Open-Sora v1.2)."""
    if scores.aesthetic is not None and "aesthetic score:" not in text:
        text = f"{text} aesthetic score: {scores.aesthetic:.1f}."
    if scores.motion is not None and "motion score:" not in text:
        text = f"{text} motion score: {scores.motion:.1f}."
    if scores.camera is not None and "camera motion:" not in text:
        text = f"{text} camera motion: {scores.camera}."
    return text


def clean(text: str) -> str:
    """Lower case, without what captions from the web carry: addresses, tags, names, ids, CJK, odd signs.

    The caption cleaner of PixArt, applied twice, which is what Open-Sora v1.2 was trained behind.
    """
    cleaner = _cleaner()
    from bs4.exceptions import ParserRejectedMarkup

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Beautiful Soup's, that a prompt looks like a path or like XML
        try:
            return cleaner([text], clean_caption=True)[0]
        except ParserRejectedMarkup as error:
            raise UserError(f"prompt {show(text)}: reads as broken HTML; write it without `<![`") from error


@cache
def _cleaner() -> Callable[..., list[str]]:
    for module, package in (("bs4", "beautifulsoup4"), ("ftfy", "ftfy"), ("diffusers", "diffusers")):
        # Without the first two, diffusers would leave the prompt as it is.
        if find_spec(module) is None:
            raise UserError(f"Open-Sora's prompts need {package}; pip install 'longvid[models]'")
    from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline

    # The method reads nothing of a pipeline but the class's own table of signs.
    pipeline = object.__new__(PixArtAlphaPipeline)
    cleaner: Callable[..., list[str]] = pipeline._text_preprocessing
    return cleaner


# Several prompts in one text, as Open-Sora v1.2's scripts take them: "|0| a sunny day |3| a rainy day"


def split_loops(prompt: str) -> tuple[list[str], list[int] | None]:
    """The segments of ``|k| text`` and the loop k that each begins at; None where it is one plain prompt."""
    if not prompt.startswith("|0|"):
        return [prompt], None
    _, *parts = re.split(r"\|(\d+)\|", prompt)
    return [text.strip() for text in parts[1::2]], [int(loop) for loop in parts[::2]]


def merge_loops(texts: Sequence[str], loops: Sequence[int] | None) -> str:
    """The inverse of `split_loops`."""
    if loops is None:
        return texts[0]
    return "".join(f"|{loop}|{text}" for loop, text in zip(loops, texts, strict=True))


def pick_loop(prompt: str, loop: int) -> str:
    """The segment that holds at a loop: the last one that begins at it or before it."""
    texts, loops = split_loops(prompt)
    return [text for text, start in zip(texts, loops or [0], strict=True) if start <= loop][-1]


# Words


@cache
def tokenizer(file: Path) -> SentencePieceProcessor:
    """T5's ``spiece.model``. Raises UserError where it, or the package to read it, is missing."""
    if find_spec("sentencepiece") is None:
        raise UserError("Open-Sora's text encoder needs sentencepiece; pip install 'longvid[models]'")
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except RuntimeError as error:
        raise UserError(f"{file}: is no sentencepiece model; copy it again") from error


def unknown_words(prompt: str, file: Path) -> list[str]:
    """Words, and signs such as emojis, that T5's vocabulary ``file`` lacks, in order, each once.

    T5 v1.1 knows English, and some French, German and Romanian. Empty where the file is not there yet.
    """
    if not file.is_file() or find_spec("sentencepiece") is None:
        return []
    vocabulary = tokenizer(file)
    words = [
        word
        for word in re.findall(r"[^\W_]+|[^\w\s]", prompt)
        if word.isalnum() or unicodedata.category(word) == "So"
    ]
    unknown = vocabulary.unk_id()
    return list(dict.fromkeys(word for word in words if unknown in vocabulary.encode(word.lower())))
