"""What every backend's network and text must pass: a part of `contract.check_backend`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from longvid.backends import Film, Geometry, Text
from longvid.errors import UserError
from longvid.guidance import starting_from
from longvid.noise import noise

PROMPTS = ("a red boat on a calm sea at dawn", "a city street at night in heavy rain")


def check_denoiser(film: Film, geometry: Geometry, size: tuple[int, int], device: str) -> None:
    """Shapes, every length of window, a time for every frame, the batch, and the same numbers twice."""
    denoiser = film.denoiser()
    prompts = film.text_encoder()(PROMPTS[:1])

    def text(units: int) -> Text:
        return film.text(prompts, {}, torch.ones(units, 1))

    for units in (1, geometry.window_units + 1):
        x, t = random_window(geometry, size, device, units)
        prediction = denoiser(x, t, text(units))
        require(
            prediction.shape == x.shape,
            f"{units} units of shape {tuple(x.shape)} get a prediction of shape {tuple(prediction.shape)}",
        )
        require(bool(prediction.isfinite().all()), f"the prediction of {units} units is not finite")
    require(torch.equal(prediction, denoiser(x, t, text(units))), "two equal calls give different numbers")

    x, t = random_window(geometry, size, device, units=3)
    prediction = denoiser(x, t, text(3))
    for unit in range(3):
        changed_t = t.clone()
        one_unit(changed_t, unit, 3, dim=1).mul_(0.5)
        require(
            not torch.equal(
                one_unit(prediction, unit, 3), one_unit(denoiser(x, changed_t, text(3)), unit, 3)
            ),
            f"another time for unit {unit} of 3 does not change its prediction: a time a frame is needed",
        )
    require(
        not torch.equal(prediction, denoiser(x, t.flip(1), text(3))),
        "the same times in another order change nothing: a time a frame is needed, not their mean",
    )
    changed_x = x.clone()
    one_unit(changed_x, 0, 3).neg_()
    require(
        not torch.equal(one_unit(prediction, 1, 3), one_unit(denoiser(changed_x, t, text(3)), 1, 3)),
        "other latents in unit 0 do not change unit 1's prediction: the network must look across frames",
    )

    pair, times = torch.cat([x, -x]), torch.cat([t, t.flip(1)])
    together = denoiser(pair, times, text(3))
    for row in (0, 1):
        require_close(
            together[row : row + 1],
            denoiser(pair[row : row + 1], times[row : row + 1], text(3)),
            "a batch of two gives other predictions than each sample alone",
        )


def check_text(film: Film, geometry: Geometry, size: tuple[int, int], device: str) -> None:
    """Each unit hears its own prompt, and a window hears nothing from outside it."""
    encoder, denoiser = film.text_encoder(), film.denoiser()
    both = encoder(PROMPTS)
    alone = encoder(PROMPTS[1:])
    require(both.mask.dtype == torch.bool, f"Prompts.mask must be bool, is {both.mask.dtype}")
    require(
        both.mask.shape == both.embeddings.shape[:2], "Prompts: embeddings [p n d] and mask [p n] disagree"
    )
    require(
        torch.equal(both.embeddings[1][both.mask[1]], alone.embeddings[0][alone.mask[0]]),
        "a prompt's embedding depends on the prompts it is encoded with; encode each alone",
    )
    require(len(encoder([""]).mask) == 1, 'the text encoder must take "", the null prompt')

    x, t = random_window(geometry, size, device, units=3)

    def predict(text: Text) -> Tensor:
        return denoiser(x, t, text)

    def film_text(*shares: Sequence[float]) -> Text:
        return film.text(both, {}, torch.tensor(shares, dtype=torch.float32))

    def told(*shares: Sequence[float]) -> Text:
        """As the loop has it: the units of a window, with the prompts that they use."""
        return film_text(*shares).for_units(range(len(shares)))

    first, second = (1.0, 0.0), (0.0, 1.0)
    plain = predict(told(first, first, first))
    for unit in range(3):
        changed = predict(told(*(second if k == unit else first for k in range(3))))
        require(
            not torch.equal(one_unit(plain, unit, 3), one_unit(changed, unit, 3)),
            f"another prompt for unit {unit} of 3 does not change that unit's prediction",
        )
    require(
        not torch.equal(predict(told(second, first, first)), predict(told(first, first, second))),
        "the network hears the window's prompts, but not which unit each is for",
    )
    require_close(
        predict(film_text(first, first, first)),
        plain,
        "a prompt that no unit of the window uses changes the window's numbers",
    )
    require(
        torch.equal(plain, predict(film.text(encoder(PROMPTS[:1]), {}, torch.ones(3, 1)))),
        "text.for_units must drop the prompts that its units do not use: they change the last bits",
    )
    require(
        torch.equal(plain, predict(film_text(second, first, first, first, second).for_units([1, 2, 3]))),
        "text.for_units does not give units 1, 2, 3 the same numbers as a text of these units alone",
    )
    require(
        not torch.equal(plain, predict(told(first, first, first).null())), "text.null() is the prompt itself"
    )
    avoided = film.text(encoder(PROMPTS[:1]), {0: encoder(PROMPTS[1:])}, torch.ones(3, 1))
    require_close(
        predict(avoided.null()),
        predict(told(second, second, second)),
        "with a negative prompt, text.null() must be that prompt's own embedding and mask",
    )

    blend = predict(told(first, (0.25, 0.75), first))
    other = predict(told(first, second, first))
    require(
        not torch.equal(one_unit(blend, 1, 3), one_unit(plain, 1, 3))
        and not torch.equal(one_unit(blend, 1, 3), one_unit(other, 1, 3)),
        "a blend of two prompts equals one of them",
    )
    twice = film.text(encoder([PROMPTS[0]] * 2), {}, torch.tensor([[0.25, 0.75]] * 3))
    require_close(
        predict(twice), plain, "a blend of a prompt with itself must be that prompt; weights sum to 1"
    )

    singles = told(first, (0.25, 0.75), second).single_prompts()
    shares = torch.tensor([list(share) for _, share in singles]).T
    require(shares.shape[0] == 3, "text.single_prompts must give each prompt's share of every unit")
    require_close(shares.sum(1), torch.ones(3), "text.single_prompts: a unit's shares must sum to 1")


def check_starts(film: Film, geometry: Geometry, size: tuple[int, int], device: str) -> None:
    """A picture's latent is one, of the film's shape, and the network goes on from it."""
    width, height = size
    shades = torch.linspace(-1, 1, width, device=device).expand(1, 3, height, width).contiguous()
    codec = film.codec()
    latent, other = codec.encode_picture(shades), codec.encode_picture(-shades)
    x, t = random_window(geometry, size, device, units=3)
    expected = (1, geometry.channels, 1, *x.shape[3:])
    require(
        tuple(latent.shape) == expected,
        f"a picture encodes to a latent of shape {tuple(latent.shape)}, not {expected}",
    )
    require(not torch.equal(latent, other), "another picture encodes to the same latent")
    require(
        torch.equal(latent, codec.encode_picture(shades)), "a picture encoded twice gives different latents"
    )

    denoiser = film.denoiser()
    shares = torch.tensor([(1.0, 0.0), (0.25, 0.75), (0.0, 1.0)])
    text = film.text(film.text_encoder()(PROMPTS), {}, shares)

    def predict(x: Tensor, t: Tensor, units: tuple[int, ...]) -> Tensor:
        return denoiser(x, t, text.for_units(units))

    each_latent = tuple(unit for unit in range(3) for _ in range(geometry.chunk_latents))
    whole = predict(x, t, (0, 1, 2))
    require_close(
        predict(x, t, each_latent),
        whole,
        "a window told as units of one latent each is not the window told in whole units",
    )
    behind = starting_from(predict, {0: latent})(x, t, (0, 1, 2))
    require(
        behind.shape == x.shape and bool(behind.isfinite().all()),
        "with a picture's latent in front of the window, the prediction is not finite or of another shape",
    )
    require(
        not torch.equal(behind, whole)
        and not torch.equal(behind, starting_from(predict, {0: other})(x, t, (0, 1, 2))),
        "a picture's latent in front of the window changes no prediction, or each picture the same",
    )


def check_trainee(film: Film, geometry: Geometry, size: tuple[int, int], device: str) -> None:
    """What is trained is what films are rendered with, in a batch as alone, and all of it learns."""
    try:
        trainee = film.trainee()
    except UserError as error:
        require(
            "\n" not in str(error), f"trainee must say why it cannot be trained in one line, said: {error}"
        )
        return
    network = trainee.network
    learns = {name: p for name, p in network.named_parameters() if p.requires_grad}
    require(
        bool(learns), "trainee.network has no parameter that asks for a gradient; raise UserError instead"
    )
    wide = {str(p.dtype) for p in network.parameters() if p.is_floating_point()} - {"torch.float32"}
    require(not wide, f"trainee.network must be in float32, has parameters in {', '.join(wide)}")
    require(network.training, "trainee.network must be in train mode")
    modules = set(network.modules())
    require(
        len({type(block) for block in trainee.blocks}) <= 1 and modules >= set(trainee.blocks),
        "trainee.blocks must be modules of the network, all of one class",
    )
    linear = {name.rpartition(".")[2] for name, m in network.named_modules() if isinstance(m, nn.Linear)}
    unknown = sorted(set(trainee.lora_targets) - linear)
    require(not unknown, f"trainee.lora_targets: the network has no linear layer {', '.join(unknown)}")

    # As a batch has them: a switch of prompts in one sample, one prompt or none in the others.
    both = film.text_encoder()(PROMPTS)
    switch = film.text(both, {}, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    plain = film.text(film.text_encoder()(PROMPTS[1:]), {}, torch.ones(3, 1))
    texts = (switch, plain, plain.null())
    x, t = random_window(geometry, size, device, units=3)
    batch, times = torch.cat([x, -x, x.flip(2)]), torch.cat([t, t.flip(1), t])
    predicted = trainee.predict(network, batch, times, texts)
    require(
        predicted.shape == batch.shape,
        f"trainee.predict gives {tuple(predicted.shape)} for latents {tuple(batch.shape)}",
    )
    predicted.square().mean().backward()
    idle = [name for name, p in learns.items() if p.grad is None]
    require(not idle, f"no gradient reaches {', '.join(idle[:3])}; what is not trained must not ask for one")
    denoiser = film.denoiser()
    for row, text in enumerate(texts):
        with torch.no_grad():
            expected = denoiser(batch[row : row + 1], times[row : row + 1], text)
        require_close(
            predicted[row : row + 1].detach(),
            expected,
            f"sample {row + 1} of a batch: trainee.predict differs from what the denoiser predicts",
        )


def random_window(
    geometry: Geometry, size: tuple[int, int], device: str, units: int
) -> tuple[Tensor, Tensor]:
    """Random latents [1 c f h w] of so many units, at rising times [1 f], one for each unit."""
    width, height = size[0] // geometry.pixel_stride, size[1] // geometry.pixel_stride
    x = noise(1, units, 0, (1, geometry.channels, units * geometry.chunk_latents, height, width)).to(device)
    t = (torch.arange(1, units + 1) / (units + 1)).repeat_interleave(geometry.chunk_latents)
    return x, t[None].to(device)


def one_unit(frames: Tensor, unit: int, units: int, dim: int = 2) -> Tensor:
    """One unit's part of a window."""
    return frames.chunk(units, dim=dim)[unit]


def require(holds: bool | Tensor, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def require_close(found: Tensor, expected: Tensor, message: str) -> None:
    """Equal but for rounding: within 1e-4 of the largest number."""
    off = float((found.float() - expected.float()).abs().max())
    limit = 1e-4 * max(1.0, float(expected.abs().max()))
    require(off <= limit, f"{message} (off by up to {off:.2g})")
