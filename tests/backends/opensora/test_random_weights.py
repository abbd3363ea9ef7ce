"""Open-Sora without a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from longvid import plugins
from longvid.backends import FilmSpec, Runtime
from longvid.backends.contract import check_backend
from longvid.backends.opensora import OpenSora
from longvid.backends.opensora.config import transformer_size
from longvid.backends.opensora.stdit3 import Reading, STDiT3
from longvid.benchmarks.steps import flop_counter

CPU = torch.device("cpu")
MID = Path(__file__).parent / "mid"


def test_it_is_a_backend_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backend = plugins.backend(str(MID)).with_random_weights()
    assert backend.missing_files() == []
    check_backend(backend, size=(48, 32))
    assert list(tmp_path.iterdir()) == []


def test_what_is_random_has_an_identity_of_its_own() -> None:
    def fingerprint(backend: OpenSora) -> str:
        spec = FilmSpec((48, 32), Fraction(24), 6, {})
        return backend.with_random_weights().for_film(spec, Runtime(CPU, torch.float32)).fingerprint

    assert fingerprint(OpenSora(MID)) == fingerprint(OpenSora(MID))
    assert fingerprint(OpenSora(MID)) != fingerprint(OpenSora(MID.parent))  # of the published sizes


def test_the_mid_size_step_is_what_the_figures_are_for() -> None:
    """A step of 35 latents of 15x27 with a prompt of 100 tokens and its null: 120 GMAC."""
    size = transformer_size(MID / "transformer" / "config.json")
    with torch.device("meta"):
        network = STDiT3(size)
        reads = [Reading(35, ((network.project(torch.randn(100, size.caption_channels)), 1.0),))]
        x, t = torch.randn(1, 4, 35, 15, 27), torch.rand(1, 35)
        counter, _ = flop_counter()
        with torch.inference_mode(), counter:
            network(x, t, 24.0, (120, 216), reads)
    # Two FLOP a multiplication, two calls of the network a step.
    assert counter.get_total_flops() / 1e9 == pytest.approx(120, rel=0.02)
