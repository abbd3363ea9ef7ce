from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longvid.evaluation import measuring, reference, weights
from longvid.evaluation.measuring import Means
from longvid.video import source
from tests.evaluation.test_provenance import rendered
from tests.evaluation.test_vbench import environment
from tests.evaluation.tiny_networks import save_clip, save_videomae
from tests.kept import flip
from tests.planning import longvid

CPU = torch.device("cpu")


def level_of(frames: list[np.ndarray]) -> np.ndarray:
    """Two features that tell a frame's level."""
    return np.array([[frame.mean(), 1] for frame in frames], np.float32)


AS_ENCODED = "measured as it was encoded, so its seams and flicker are the encoder's as well"
NO_CONSISTENCY = "no shot is long enough for feature consistency: two clips of 2 s each are needed"
BY = Means(cuts=True, flow=True, embed=level_of, missing=None)  # type: ignore[arg-type]


def measured(film: source.Source, **how: bool) -> dict[str, object]:
    return measuring.measure(film, None, BY, lambda what: None, device=CPU, **how).values


def test_a_film_is_measured_from_its_latents_or_as_its_file(workplace: Path) -> None:
    film = rendered()
    found, encoded = measured(film), measured(film, encoded=True)
    assert (found["frames_from"], encoded["frames_from"]) == ("latents", "file")
    assert (found["frames"], found["seconds"], found["chunk_frames"]) == (60, 5, 8)
    assert found["seam_ratio"] is not None and found["seam_ratio"] != encoded["seam_ratio"]
    assert found["notes"] == [NO_CONSISTENCY]
    assert encoded["notes"] == [AS_ENCODED, NO_CONSISTENCY]


def test_titles_are_no_part_of_what_is_measured_from_latents(workplace: Path) -> None:
    plain = measured(rendered(scale=8))
    edited = rendered(scale=8, fade=1, credits="Nobody")
    assert edited.frames > 60
    found = measured(edited)
    assert found["frames"] == 60
    assert found["flicker"] == plain["flicker"]


def test_where_latents_are_damaged_the_file_is_measured_and_it_is_said(workplace: Path) -> None:
    film = rendered()
    flip(Path("film.longvid/latents/000002.safetensors"), 100)
    found = measured(film)
    assert found["frames_from"] == "file"
    damaged = "film.longvid/latents/000002.safetensors is missing or damaged"
    assert found["notes"] == [f"its file is measured, not its latents: {damaged}", AS_ENCODED, NO_CONSISTENCY]


def test_a_film_too_short_for_a_metric_says_so(workplace: Path) -> None:
    Path("film.yaml").write_text("{model: tiny, shots: [{prompt: a boat, seconds: 3}]}")
    found = measured(rendered_of("film.yaml"))
    assert found["flicker_at_chunk_period"] is not None
    Path("film.yaml").write_text("{model: tiny, shots: [{prompt: a boat, seconds: 2}]}")
    found = measured(rendered_of("film.yaml", "short.mp4"))
    assert found["flicker_at_chunk_period"] is None
    assert "too short to tell its chunks' period by" in str(found["notes"])
    assert found["consistency"] is None
    assert NO_CONSISTENCY in found["notes"]


def rendered_of(timeline: str, output: str = "film.mp4") -> source.Source:
    ran = longvid("render", timeline, "-o", output, "--device", "cpu", "-q")
    assert ran.code == 0, ran.err
    return source.probe(Path(output))


# With weights


def test_pulled_networks_score_prompts_and_clips(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(workplace / "data"))
    assert measuring.means(CPU).clip is None and measuring.means(CPU).videomae is None
    save_clip(weights.Metrics().folder / weights.CLIP)
    save_videomae(weights.Metrics().folder / weights.VIDEOMAE)
    assert weights.Metrics().missing_files() == []
    by = measuring.means(CPU)
    assert by.missing is None and by.clip is not None and by.videomae is not None
    film = rendered()
    own = measuring.measure(film, None, by, lambda what: None, device=CPU)
    first, second, third = own.values["clip_by_shot"]
    assert first["margin"] is None and third["margin"] is not None
    assert second is None, "behind its blend there is no sample"
    assert own.values["clip_score"] == pytest.approx((first["score"] + third["score"]) / 2)
    assert own.values["clip_margin"] == third["margin"]
    assert own.signals.clips is not None and own.signals.clips.shape == (2, 16)
    apart = reference.apart([own], [film], by, lambda what: None)
    assert apart.fvd is not None and (apart.fvd.n, apart.fvd.dimensions) == (2, 16)
    assert apart.fvd.value == pytest.approx(0, abs=0.1), "the film's own file, but for its encoder"


def test_vbench_is_asked_in_its_own_environment(workplace: Path) -> None:
    by = replace(BY, vbench=environment(workplace))
    found = measuring.measure(rendered(), None, by, lambda what: None, device=CPU).values
    assert found["vbench"]["subject_consistency"] == pytest.approx(0.2)
