"""A model of diffusers loaded for one film: its family's functions behind the Protocols."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

import torch
from torch import Tensor, nn

from longvid.backends import CodecPart, Denoiser, FilmSpec, Process, Prompts, Runtime, TextEncoder, VideoCodec
from longvid.backends.checkpoints import fingerprint
from longvid.backends.diffusers import loading
from longvid.backends.diffusers.attention import FrameAttention
from longvid.backends.diffusers.family import Family
from longvid.backends.diffusers.folder import save
from longvid.backends.diffusers.memory import holding
from longvid.backends.diffusers.published import SCHEDULER, TEXT_ENCODER, TOKENIZER, VAE, FamilyName
from longvid.backends.random_weights import RandomEncoder
from longvid.errors import UserError
from longvid.guidance import PromptText, per_frame, per_prompt
from longvid.lora import layers

if TYPE_CHECKING:
    from longvid.backends.diffusers import Diffusers


def family(name: FamilyName) -> Family:
    """The functions of a family: FAMILY of the module of its name."""
    return cast(Family, import_module(f"longvid.backends.diffusers.{name}").FAMILY)


@dataclass(frozen=True, eq=False)
class DiffusersFilm:
    """``flow_shift``: of the schedule, None where the model has none."""

    backend: Diffusers
    spec: FilmSpec
    runtime: Runtime
    family: Family
    flow_shift: float | None
    _null: list[Prompts] = field(default_factory=list)
    """The null prompt's embedding, once it is known: the text encoder is not loaded for it again."""

    @staticmethod
    def of(backend: Diffusers, spec: FilmSpec, runtime: Runtime) -> DiffusersFilm:
        loading.require_extra(backend.name)
        backend.check_options(spec.options)
        missing = backend.missing_files()
        if missing:
            raise UserError(
                f"{backend.name}: {missing[0]} is missing; `longvid models pull {backend.name}` fetches it"
            )
        return DiffusersFilm(
            backend, spec, runtime, family(backend.model.family), backend.flow_shift(spec.options)
        )

    @cached_property
    def process(self) -> Process:
        return self.family.process(self.backend.config(SCHEDULER))

    def schedule(self, level: Tensor) -> Tensor:
        return self.family.schedule(level, self.flow_shift, self.spec)

    # Text

    def text_encoder(self) -> TextEncoder:
        encoder = self._text_encoder()
        if not self._null:
            self._null.append(encoder([""]))
        return encoder

    def _text_encoder(self) -> TextEncoder:
        config = self.backend.config(TEXT_ENCODER)
        if self.backend.random:
            return RandomEncoder(self.family.tokens, int(config.get("d_model") or config["hidden_size"]))
        on_card = holding(self.runtime.rung).text_on_card
        device = self.runtime.device if on_card else torch.device("cpu")
        network = loading.from_folder(self.backend.part(TEXT_ENCODER), config, self.runtime.dtype, device)
        return self.family.text_encoder(network, self.backend.part(TOKENIZER), device)

    def text(self, prompts: Prompts, negatives: Mapping[int, Prompts], mix: Tensor) -> PromptText:
        """Without a prompt stands the empty one, under its own mask, as in the published pipelines."""
        if not self._null:
            self._null.append(self._text_encoder()([""]))
        (null,) = self._null
        count = len(prompts.mask)
        nulls = Prompts(null.embeddings.expand(count, -1, -1), null.mask.expand(count, -1))
        return PromptText.of(prompts, nulls, negatives, mix)

    # The network

    def denoiser(self) -> Denoiser:
        held = holding(self.runtime.rung)
        device, dtype = self.runtime.device, self.runtime.dtype
        network = self._network(dtype, device if held.blocks_stay else torch.device("cpu"))
        if self.runtime.compile:
            for block in self.family.blocks(network):
                block.compile()
        if not held.blocks_stay:
            loading.stream_blocks(network, device)

        def predict(x: Tensor, t: Tensor, prompts: Prompts) -> Tensor:
            heard = _on(prompts, device, dtype)
            return self.family.predict(network, x.to(dtype), t.float(), heard, self.spec).to(x.dtype)

        if self.family.reads is None:
            return per_prompt(lambda x, t, text: predict(x, t, text.prompts))
        frames = FrameAttention(self.family.reads(network))

        def predict_by_frame(x: Tensor, t: Tensor, text: PromptText) -> Tensor:
            with frames.hearing([text] * len(x), x.shape[2]) as prompts:
                return predict(x, t, prompts)

        return predict_by_frame

    def trainee(self, fresh: int | None = None) -> DiffusersTrainee:
        if fresh is None:
            network = self._network(torch.float32, self.runtime.device)
        else:
            network = loading.untrained(self.backend.config(self.backend.model.network), fresh)
            network = network.to(self.runtime.device)
            self.family.prepare(network)
        network.train().requires_grad_(True)
        for module in network.modules():
            if isinstance(module, nn.RMSNorm):  # its fast kernel takes one dtype, and autocast leaves it two
                module.register_forward_pre_hook(_in_its_weight_s_dtype)
        reads = self.family.reads
        return DiffusersTrainee(self, network, None if reads is None else FrameAttention(reads(network)))

    def codec_trainee(self, part: CodecPart, fresh: int | None = None) -> NoReturn:
        raise UserError(
            f"--train {part}: {self.backend.name}'s autoencoder is not trained here; train the denoiser"
        )

    def _network(self, dtype: torch.dtype, device: torch.device) -> nn.Module:
        part = self.backend.model.network
        network = self._part(part, dtype, device)
        folder, config = self.backend.part(part), self.backend.config(part)
        stored = None if self.backend.random else loading.checkpoint(folder, config)
        loading.adapt(network, self.spec.loras, self.backend.name, stored, self.family.original)
        self.family.prepare(network)
        return network

    def codec(self) -> VideoCodec:
        """In float32, as the published pipelines advise: rounding shows in the picture."""
        return self.family.codec(self._part(VAE, torch.float32, self.runtime.device))

    def _part(self, name: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
        config = self.backend.config(name)
        if self.backend.random:
            return loading.random(config, dtype, device)
        return loading.from_folder(self.backend.part(name), config, dtype, device)

    @cached_property
    def fingerprint(self) -> str:
        backend = self.backend
        parts = (backend.model.network, VAE, TEXT_ENCODER)
        configs = {part: backend.config(part) for part in (*parts, SCHEDULER)}
        said = [backend.name, configs, self.flow_shift]
        if not backend.random:
            files = [
                *(
                    file
                    for part in parts
                    for file in loading.checkpoint(backend.part(part), configs[part]).files
                ),
                *sorted(file for file in backend.part(TOKENIZER).iterdir() if file.is_file()),
            ]
            said.append(fingerprint(files))
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class DiffusersTrainee:
    """The Trainee of any family. ``frames``: where None, a row of the batch for each prompt of a sample."""

    film: DiffusersFilm
    network: nn.Module
    frames: FrameAttention | None

    @property
    def lora_targets(self) -> tuple[str, ...]:
        return self.film.family.lora_targets

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return self.film.family.blocks(self.network)

    def predict(self, network: nn.Module, x: Tensor, t: Tensor, texts: Sequence[PromptText]) -> Tensor:
        if self.frames is None:
            return self._predict_per_prompt(network, x, t, texts)
        with self.frames.hearing(texts, x.shape[2]) as prompts:
            heard = _on(prompts, x.device, x.dtype)
            return self.film.family.predict(network, x, t, heard, self.film.spec).float()

    def _predict_per_prompt(
        self, network: nn.Module, x: Tensor, t: Tensor, texts: Sequence[PromptText]
    ) -> Tensor:
        """As `guidance.per_prompt` has it, all prompts of all samples in one batch."""
        rows = [
            (sample, prompt.prompts, per_frame(torch.tensor(shares), x))
            for sample, text in enumerate(texts)
            for prompt, shares in text.single_prompts()
        ]
        samples = torch.tensor([sample for sample, _, _ in rows], device=x.device)
        prompts = Prompts(
            torch.cat([prompt.embeddings for _, prompt, _ in rows]),
            torch.cat([prompt.mask for _, prompt, _ in rows]),
        )
        shares = torch.cat([share for _, _, share in rows])
        predicted = self.film.family.predict(
            network, x[samples], t[samples], _on(prompts, x.device, x.dtype), self.film.spec
        )
        return torch.zeros_like(x).index_add(0, samples, shares * predicted.float())

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        save(self.film.backend, folder, weights)


def _in_its_weight_s_dtype(norm: nn.RMSNorm, args: tuple[Tensor]) -> tuple[Tensor] | None:
    return None if norm.weight is None else (args[0].to(norm.weight.dtype),)


def _on(prompts: Prompts, device: torch.device, dtype: torch.dtype) -> Prompts:
    embeddings = prompts.embeddings.to(device, dtype, non_blocking=True)
    return Prompts(embeddings, prompts.mask.to(device, non_blocking=True))


def linear_layers(backend: Diffusers) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of the network's linear layers by name, diffusers' and the original code's."""
    loading.require_extra(backend.name)
    own = layers(loading.outline(backend.config(backend.model.network)))
    return loading.with_original_names(own, family(backend.model.family).original)


def check_weights(backend: Diffusers) -> list[str]:
    """What is wrong with the weights of each part, a line a tensor."""
    loading.require_extra(backend.name)
    return [
        f"{part}: {line}"
        for part in (backend.model.network, VAE, TEXT_ENCODER)
        for line in loading.check(backend.part(part), backend.config(part)).lines()
    ]
