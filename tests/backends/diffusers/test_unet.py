"""ModelScope's text-to-video: its times, its process, and the published pipeline's own numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longvid.backends import FilmSpec, Prompts
from longvid.backends.contract import check_backend
from longvid.backends.diffusers import Diffusers, modelscope_1_7b, unet
from longvid.backends.diffusers.film import DiffusersFilm
from longvid.backends.diffusers.text import CLIPEncoder
from longvid.denoise import denoise, fresh
from longvid.errors import UserError
from longvid.guidance import classifier_free
from longvid.noise import noise
from longvid.processes import euler
from tests.backends.diffusers.tiny_unet import pipeline, tokenizer, write_tiny_modelscope
from tests.tiny import RUNTIME
from tests.walking import progressive

SPEC = FilmSpec((32, 16), Fraction(8), 3, {})
PROMPT = "a red boat"
SHAPE = (1, 4, 6, 2, 4)
WEIGHTS = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Diffusers:
    return modelscope_1_7b(write_tiny_modelscope(tmp_path_factory.mktemp("modelscope")))


@pytest.fixture(scope="module")
def film(backend: Diffusers) -> DiffusersFilm:
    return backend.for_film(SPEC, RUNTIME)


def test_it_is_a_backend(backend: Diffusers) -> None:
    check_backend(backend, size=SPEC.size)


def test_the_latents_are_the_published_pipelines(film: DiffusersFilm) -> None:
    """Uniform times, no window, guidance 9: five steps of DDIM from the same noise."""
    start = noise(0, 0, 0, SHAPE)
    pipe = pipeline()
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        PROMPT,
        height=SPEC.size[1],
        width=SPEC.size[0],
        num_frames=SHAPE[2],
        num_inference_steps=5,
        guidance_scale=9.0,
        latents=start.clone(),
        output_type="latent",
    ).frames
    assert not torch.allclose(expected, start, atol=0.1)
    text = film.text(film.text_encoder()([PROMPT]), {}, torch.ones(1, 1))
    states = denoise(
        progressive([1], 5, 1),
        fresh(SHAPE[1:], RUNTIME.device),
        predict=classifier_free(film.denoiser(), text, [9.0]),
        schedule=film.schedule,
        process=film.process,
        solver=euler,
        total_levels=5,
        noise=lambda unit, step: start,
    )
    ((_, (found,)),) = [each for each in states if each[1]]
    torch.testing.assert_close(found.latents, expected, rtol=1e-4, atol=1e-4)


def test_frames_of_one_time_are_the_unchanged_network(film: DiffusersFilm) -> None:
    x, tokens = noise(0, 0, 0, (2, 4, 6, 2, 4)), noise(0, 1, 0, (2, 7, 16))
    plain = pipeline().unet.requires_grad_(False)
    prepared = pipeline().unet.requires_grad_(False)
    unet.prepare(prepared)
    rows = torch.tensor([299.0, 699.0])
    expected = plain(x, rows, tokens, return_dict=False)[0]
    assert torch.equal(prepared(x, rows, tokens, return_dict=False)[0], expected)
    prompts = Prompts(tokens, torch.ones(2, 7, dtype=torch.bool))
    found = unet.predict(prepared, x, torch.tensor([[0.3], [0.7]]).expand(2, 6), prompts, SPEC)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_each_frames_block_adds_its_own_time() -> None:
    """The embedding that residual blocks get for a frame is the one of that frame's time, in order."""
    network = pipeline().unet.requires_grad_(False)
    unet.prepare(network)
    heard: list[Tensor] = []
    for block in (
        network.down_blocks[0].resnets[0],
        network.mid_block.resnets[1],
        network.up_blocks[1].resnets[0],
    ):
        block.time_emb_proj.register_forward_pre_hook(lambda layer, args: heard.append(args[0]))
    t = torch.tensor([[0.1, 0.2, 0.3], [0.7, 0.8, 0.9]])
    tokens = Prompts(noise(0, 1, 0, (1, 7, 16)), torch.ones(1, 7, dtype=torch.bool))
    unet.predict(network, noise(0, 0, 0, (2, 4, 3, 2, 4)), t, tokens, SPEC)
    rows = torch.tensor([99.0, 199.0, 299.0, 699.0, 799.0, 899.0])
    expected = torch.nn.functional.silu(network.time_embedding(network.time_proj(rows), None))
    assert len(heard) == 3
    for embeddings in heard:
        torch.testing.assert_close(embeddings, expected, rtol=1e-4, atol=1e-5)


def test_times_are_rows_of_the_noise_table(film: DiffusersFilm) -> None:
    """t = 1 is its last row; at t = 0 a frame is clean, and the network is told the first row."""
    table = pipeline().scheduler.alphas_cumprod
    process = film.process
    torch.testing.assert_close(process.alpha_bars, table)
    t = torch.tensor([1.0, 0.5, 0.001, 0.0])
    torch.testing.assert_close(
        process.alpha_bar(t), torch.stack([table[999], table[499], table[0], torch.ones(())])
    )
    told: list[Tensor] = []

    def network(x: Tensor, *, timestep_cond: Tensor, **others: object) -> tuple[Tensor]:
        told.append(timestep_cond)
        return (x,)

    tokens = Prompts(torch.zeros(1, 2, 16), torch.ones(1, 2, dtype=torch.bool))
    unet.predict(network, torch.zeros(1, 4, 4, 2, 2), t[None], tokens, SPEC)
    torch.testing.assert_close(told[0], process.timestep(t)[None])
    torch.testing.assert_close(told[0], torch.tensor([[999.0, 499.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prediction_type": "v_prediction"}, "prediction_type 'v_prediction' are not supported"),
        ({"num_train_timesteps": 500}, "500 steps and"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule 'squaredcos_cap_v2' is not supported"),
    ],
)
def test_schedulers_that_are_not_its_own(changed: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        unet.process({"beta_schedule": "linear", **changed})


def test_a_linear_table() -> None:
    from diffusers import DDIMScheduler

    torch.testing.assert_close(unet.process({}).alpha_bars, DDIMScheduler().alphas_cumprod)


def test_prompts_are_encoded_as_the_pipeline_does() -> None:
    pipe = pipeline()
    encoder = CLIPEncoder(pipe.text_encoder.requires_grad_(False), tokenizer(), 77, torch.device("cpu"))
    long = "a boat at sea " * 10
    for prompt in (PROMPT, long):
        expected, null = pipe.encode_prompt(prompt, torch.device("cpu"), 1, True, negative_prompt="blurry")
        found = encoder([PROMPT, prompt])
        assert torch.equal(found.embeddings[1:], expected) and bool(found.mask.all())
        assert torch.equal(encoder.negative("blurry").embeddings, null)
    assert encoder.unread(PROMPT) == ""
    # Every letter is a token, and two places of 77 are the ends'.
    assert encoder.unread(long).replace(" ", "") == long.replace(" ", "")[75:]


def test_names_of_the_time_when_it_was_published(film: DiffusersFilm, tmp_path: Path) -> None:
    """CLIP's with its places among them, and the autoencoder's attention: loaded as those of today are."""
    older = modelscope_1_7b(write_tiny_modelscope(tmp_path))
    text, vae = tmp_path / "text_encoder/model.safetensors", tmp_path / WEIGHTS
    tensors = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in load_file(text).items()}
    save_file(
        tensors | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, text, {"format": "pt"}
    )
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = load_file(vae)
    for new, old in names.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    assert sum(".query." in name for name in tensors) == 4
    save_file(tensors, vae, {"format": "pt"})
    assert older.check_weights() == []
    loaded = older.for_film(SPEC, RUNTIME)
    assert torch.equal(loaded.text_encoder()([PROMPT]).embeddings, film.text_encoder()([PROMPT]).embeddings)
    latents = noise(0, 0, 0, (1, 4, 1, 2, 4))
    assert torch.equal(loaded.codec().decode(latents, {})[0], film.codec().decode(latents, {})[0])


def test_what_is_trained(film: DiffusersFilm) -> None:
    """Without dropout; its blocks, and those that hear the prompt."""
    network = film.trainee().network
    assert network.training
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert (len(unet.blocks(network)), len(unet.reads(network))) == (9, 4)
