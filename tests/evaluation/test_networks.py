from pathlib import Path

import numpy as np
import pytest
import torch

from longvid.evaluation.networks import Clip, VideoMae, pixels
from tests.evaluation.pictures import texture
from tests.evaluation.tiny_networks import save_clip, save_videomae

CPU = torch.device("cpu")


def test_pictures_are_scaled_cut_and_normalised() -> None:
    frame = np.zeros((40, 120, 3), np.uint8)
    frame[:, 40:80] = 255, 0, 51
    found = pixels([frame], 20, (0.5, 0.0, 0.1), (0.5, 1.0, 0.1), CPU)
    assert found.shape == (1, 3, 20, 20)
    inside = found[0, :, 2:-2, 2:-2]
    assert torch.allclose(inside, torch.tensor([1.0, 0, 1])[:, None, None].expand(3, 16, 16), atol=1e-4)


def test_clip_gives_vectors_of_length_one(tmp_path: Path) -> None:
    save_clip(tmp_path)
    clip = Clip.load(tmp_path, CPU)
    first, other = texture(), texture(seed=1)
    pictures, texts = clip.pictures([first, other, first]), clip.texts(["a boat", "a toad", "a boat " * 20])
    assert pictures.shape == texts.shape == (3, 12)
    for embeddings in (pictures, texts):
        assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert np.allclose(pictures[0], pictures[2], atol=1e-6) and not np.allclose(pictures[0], pictures[1])
    assert not np.allclose(texts[0], texts[1])
    assert np.allclose(clip.texts(["a boat"]), texts[:1], atol=1e-6), "each by itself"
    with torch.inference_mode():
        shown = pixels(
            [first], 32, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), CPU
        )
        wanted = clip.network.visual_projection(clip.network.vision_model(shown).pooler_output)[0]
    assert np.allclose(pictures[0], (wanted / wanted.norm()).numpy(), atol=1e-5)


def test_videomae_gives_a_vector_a_clip(tmp_path: Path) -> None:
    save_videomae(tmp_path)
    videomae = VideoMae.load(tmp_path, CPU)
    assert videomae.frames == 4
    frames = [texture(seed=seed) for seed in range(4)]
    found = videomae.clip(frames)
    assert found.shape == (16,)
    assert not np.allclose(found, videomae.clip(frames[::-1])), "it sees the order"
