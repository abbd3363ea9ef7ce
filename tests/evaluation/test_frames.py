from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longvid.errors import UserError
from longvid.evaluation import frames
from longvid.evaluation.provenance import provenance
from longvid.takes import Take
from longvid.video import source, writer
from tests.evaluation.pictures import levels, write
from tests.evaluation.test_provenance import rendered
from tests.kept import flip
from tests.planning import longvid

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Rendered:
    take: Take
    given: list[np.ndarray]
    """What the encoder was given, chunk by chunk [f h w 3]."""


@pytest.fixture
def film(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Rendered:
    given: list[np.ndarray] = []
    encode = writer.encode

    def listening(pixels: np.ndarray, *how: Any) -> bytes:
        given.append(pixels)
        return encode(pixels, *how)

    monkeypatch.setattr(writer, "encode", listening)
    take = provenance(rendered()).take
    assert take is not None
    return Rendered(take, given)


def test_latents_show_what_the_encoder_was_given(film: Rendered) -> None:
    shown = np.stack(list(frames.from_latents(film.take, frames.codec_of(film.take, CPU), CPU)))
    assert shown.shape == (60, 32, 48, 3)
    assert (shown == np.concatenate(film.given)).all()


def test_a_film_that_starts_from_a_clip_is_shown_without_it(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("clip.mp4"), levels(36))
    Path("film.yaml").write_text(
        "{model: tiny, start_from: clip.mp4, shots: [{prompt: a, seconds: 2}, {prompt: b, seconds: 2}]}"
    )
    ran = longvid("render", "film.yaml", "--device", "cpu", "-q")
    assert ran.code == 0, ran.err
    found = provenance(source.probe(Path("film.mp4")))
    assert found.take is not None
    assert found.borders == (8, 16, 24, 32, 40)
    shown = list(frames.from_latents(found.take, frames.codec_of(found.take, CPU), CPU))
    assert len(shown) == 48


def test_damaged_latents_are_not_decoded(film: Rendered) -> None:
    flip(Path("film.longvid/latents/000002.safetensors"), 100)
    with pytest.raises(UserError, match=r"latents/000002.safetensors is missing or damaged"):
        frames.codec_of(film.take, CPU)


def test_other_weights_are_no_use(film: Rendered) -> None:
    film.take.run["fingerprint"] = "others"  # type: ignore[index]
    with pytest.raises(UserError, match="the weights of tiny are others than those it was made with"):
        frames.codec_of(film.take, CPU)
