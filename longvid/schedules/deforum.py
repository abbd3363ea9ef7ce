"""Deforum: ``{"0": "...", "48": "..."}``, alone or in a settings file.

A prompt holds until the next one's frame; in the animation mode Interpolation it fades into it. What stands
behind ``--neg`` is negative. ``animation_prompts_positive`` goes in front of every prompt,
``animation_prompts_negative`` behind every negative. In a key, ``max_f`` is ``max_frames`` - 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longvid.document import show
from longvid.schedules.imports import Asked, Imported, Notes, plain_weighted
from longvid.schedules.keyframes import end_frame, faded, film, held, keyframes, loads, number
from longvid.times import parse_fps

AT_REST: Mapping[str, str] = {
    "angle": "0",
    "zoom": "1",
    "translation_x": "0",
    "translation_y": "0",
    "translation_z": "0",
    "rotation_3d_x": "0",
    "rotation_3d_y": "0",
    "rotation_3d_z": "0",
}
"""Camera schedules, and the value at which each moves nothing."""
OWN = ("steps", "sampler", "cfg_scale_schedule", "strength_schedule", "noise_schedule", "seed_schedule")
"""Settings of Stable Diffusion's sampling."""


def read(text: str, asked: Asked) -> Imported:
    """Raises UserError for what is no Deforum schedule."""
    content = loads(text, asked)
    if not isinstance(content, dict):
        raise asked.error(1, 'is no schedule; one reads {"0": "a boat", "48": "a storm"}')
    notes = Notes()
    settings, prompts = _prompts(content, asked)
    fps = asked.fps
    if fps is None and settings.get("fps") is not None:
        try:
            fps = parse_fps(number(settings["fps"]) or settings["fps"])
        except ValueError as error:
            raise asked.error(0, f"fps: {error}") from None
    if fps is None:
        notes.add("the file says no rate: its frames count at the model's; --fps sets one")
    end = end_frame(asked, settings.get("max_frames"), fps)
    negative = _text(settings, "animation_prompts_negative", asked).replace("--neg", " ")
    negative = plain_weighted(negative, asked, notes, 0)
    style = plain_weighted(_text(settings, "animation_prompts_positive", asked), asked, notes, 0)
    if style:
        notes.add("animation_prompts_positive became `style`: it goes behind every prompt, not in front")
    # Other settings may have frames for keys, too: lines are looked for from the prompts on.
    begin = max(text.find('"animation_prompts"'), text.find('"prompts"'), 0)
    within = "\n" * text.count("\n", 0, begin) + text[begin:]
    keys = keyframes(prompts, None if end is None else end - 1, negative, asked, within, notes)
    fades = settings.get("animation_mode") == "Interpolation"
    shots, lines = (faded if fades else held)(keys, end, notes)
    _tell(settings, notes)
    data = film(shots, fps, style, negative)
    seed, sides = number(settings.get("seed")), [number(settings.get(side)) for side in ("W", "H")]
    if seed is not None and seed >= 0 and seed.denominator == 1:
        data = {"seed": int(seed), **data}
    if None not in sides:
        data = {"size": [int(side or 0) for side in sides], **data}
    return Imported("Deforum", data, {("shots", i): line for i, line in enumerate(lines)}, notes)


def _prompts(content: dict[str, Any], asked: Asked) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings, prompts): a file of prompts alone has no settings."""
    for key in ("animation_prompts", "prompts"):
        prompts = content.get(key)
        if isinstance(prompts, str) and prompts.lstrip().startswith("{"):
            prompts = loads(prompts, Asked(f"{asked.name}: {key}", asked.fps, asked.seconds))
        if isinstance(prompts, dict):
            return content, prompts
        if prompts is not None and key == "prompts":
            message = f'prompts: {show(prompts)} is no schedule; one reads {{"0": "a boat", "48": "a storm"}}'
            raise asked.error(0, message)
    if any(key in content for key in ("max_frames", "animation_mode", "sampler")):
        raise asked.error(0, "is a settings file without `prompts`; add them, keyed by frame")
    return {}, content


def _text(settings: Mapping[str, Any], key: str, asked: Asked) -> str:
    value = settings.get(key) or ""
    if not isinstance(value, str):
        raise asked.error(0, f"{key}: {show(value)} is not text")
    return value


def _tell(settings: Mapping[str, Any], notes: Notes) -> None:
    """What of the settings has no counterpart in a timeline."""
    moving = [key for key, rest in AT_REST.items() if _moves(settings.get(key), rest)]
    if moving:
        notes.add(
            f"the camera's schedules are left out ({', '.join(moving)}): say the movement in the prompts"
        )
    own = [key for key in OWN if settings.get(key)]
    if own:
        notes.add(f"settings of Stable Diffusion's sampling are left out ({', '.join(own)})")
    if settings.get("use_init") and settings.get("init_image"):
        notes.add(f"init_image {show(settings['init_image'])} is left out: `image` of a shot starts from one")
    if settings.get("animation_mode") == "Video Input":
        notes.add("animation_mode Video Input: the video is left out, and with it its own number of frames")
    if settings.get("parseq_manifest"):
        notes.add("parseq_manifest is left out, with any prompts in it")
    if settings.get("add_soundtrack") in ("File", True) and settings.get("soundtrack_path"):
        notes.add(f"the soundtrack {show(settings['soundtrack_path'])} is left out: `output.music` adds one")


def _moves(schedule: object, rest: str) -> bool:
    """Whether a schedule such as ``0: (1.0025)`` ever leaves the value at which it moves nothing."""
    if not isinstance(schedule, str) or not schedule.strip():
        return False
    values = [part.rpartition(":")[2].strip(" ()") for part in schedule.split(",")]
    return any(number(value) != number(rest) for value in values)
