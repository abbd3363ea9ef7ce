"""The objects of diorama's world, as signed distances in its units."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from longvid.backends.diorama.canvas import Array, coverage, over


def _shaded(color: Array, dx: Array, dy: Array, r: Array) -> Array:
    """Lit from the upper left."""
    light = np.clip(np.float32(1.1) - (dx + dy) / (np.float32(3.6) * r), np.float32(0.6), np.float32(1.25))
    shaded: Array = np.clip(color * light[..., None], 0, 1)
    return shaded


RIM = np.float32(0.45)
WOOD = np.array((0.45, 0.27, 0.13), np.float32)
MAST = np.array((0.28, 0.18, 0.10), np.float32)
BEAK = np.array((0.98, 0.62, 0.15), np.float32)
GLASS = np.array((0.62, 0.85, 0.95), np.float32)
LAMP = np.array((1.0, 0.95, 0.65), np.float32)


def _balloon(below: Array, dx: Array, dy: Array, r: Array, color: Array, alpha: Array, beat: Array) -> Array:
    ropes = np.maximum(
        np.abs(np.abs(dx) - r * np.float32(0.3)) - np.float32(0.45),
        np.maximum(r * np.float32(0.6) - dy, dy - r * np.float32(1.1)),
    )
    basket = np.maximum(
        np.abs(dx) - r * np.float32(0.36), np.abs(dy - r * np.float32(1.2)) - r * np.float32(0.22)
    )
    envelope = np.sqrt(dx * dx + (dy + r * np.float32(0.3)) ** 2) - r
    stripe = np.where(np.abs(dx) < r * np.float32(0.33), np.float32(1.3), np.float32(0.95))[..., None]
    picture = over(over(below, coverage(ropes) * alpha, WOOD), coverage(basket) * alpha, WOOD)
    picture = over(picture, coverage(envelope) * alpha, color * RIM)
    return over(
        picture,
        coverage(envelope + np.float32(1.1)) * alpha,
        np.clip(_shaded(color, dx, dy, r) * stripe, 0, 1),
    )


def _boat(below: Array, dx: Array, dy: Array, r: Array, color: Array, alpha: Array, beat: Array) -> Array:
    beam = r * np.float32(1.25) - np.clip(dy - r * np.float32(0.4), 0, 20) * np.float32(0.9)
    hull = np.maximum(np.abs(dx) - beam, np.maximum(r * np.float32(0.4) - dy, dy - r * np.float32(0.95)))
    mast = np.maximum(
        np.abs(dx + r * np.float32(0.15)) - np.float32(0.8),
        np.abs(dy + r * np.float32(0.35)) - r * np.float32(0.8),
    )
    sail = np.maximum(
        np.maximum(-dx, dy - r * np.float32(0.25)),
        (dx - (dy + r * np.float32(1.15)) * np.float32(0.8)) * np.float32(0.78),
    )
    picture = over(over(below, coverage(hull) * alpha, WOOD), coverage(mast) * alpha, MAST)
    picture = over(picture, coverage(sail) * alpha, color * RIM)
    return over(picture, coverage(sail + np.float32(1.1)) * alpha, _shaded(color, dx, dy, r))


def _star(below: Array, dx: Array, dy: Array, r: Array, color: Array, alpha: Array, beat: Array) -> Array:
    fifth = np.float32(2 * np.pi / 5)
    turn = np.mod(np.arctan2(dx, -dy) + fifth / 2, fifth) - fifth / 2
    reach = np.sqrt(dx * dx + dy * dy)
    along, across = reach * np.cos(turn), np.abs(reach * np.sin(turn))
    tip, notch = r * np.float32(1.25), r * np.float32(0.58)
    notch_along, notch_across = notch * np.float32(np.cos(np.pi / 5)), notch * np.float32(np.sin(np.pi / 5))
    edge = np.sqrt((tip - notch_along) ** 2 + notch_across**2) + np.float32(1e-6)
    distance = ((along - tip) * notch_across + across * (tip - notch_along)) / edge
    picture = over(below, coverage(distance) * alpha, color * RIM)
    return over(picture, coverage(distance + np.float32(1.1)) * alpha, _shaded(color, dx, dy, r))


def _kite(below: Array, dx: Array, dy: Array, r: Array, color: Array, alpha: Array, beat: Array) -> Array:
    ribbon = np.abs(dx - 2 * np.sin((dy - r) * np.float32(0.7))) - np.float32(0.9)
    tail = np.maximum(ribbon, np.maximum(r * np.float32(1.1) - dy, dy - r * np.float32(1.9)))
    diamond: Array = np.abs(dx) * np.float32(1.45) + np.abs(dy) - r * np.float32(1.2)
    sail = diamond / np.float32(1.76)
    panel = np.where(dx * dy > 0, np.float32(1.2), np.float32(0.72))[..., None]
    picture = over(below, coverage(tail) * alpha, np.full(3, 0.95, np.float32))
    picture = over(picture, coverage(sail) * alpha, color * RIM)
    return over(picture, coverage(sail + np.float32(1.1)) * alpha, np.clip(color * panel, 0, 1))


def _bird(below: Array, dx: Array, dy: Array, r: Array, color: Array, alpha: Array, beat: Array) -> Array:
    """Seen from the front; ``beat``, -1 to 1, lifts its wings."""
    out = np.abs(dx) / (r * np.float32(1.35))
    wings = np.abs(dy + r * (np.float32(0.25) + np.float32(0.6) * beat) * out * (2 - out)) - r * (
        np.float32(0.34) * (1 - out * out)
    )
    wings = np.maximum(wings * np.float32(0.8), np.abs(dx) - r * np.float32(1.35))
    body = np.sqrt((dx * np.float32(1.5)) ** 2 + (dy - r * np.float32(0.12)) ** 2) - r * np.float32(0.62)
    head = np.sqrt(dx * dx + (dy + r * np.float32(0.5)) ** 2) - r * np.float32(0.32)
    beak = np.maximum(
        np.abs(dx) * np.float32(1.4) + dy + r * np.float32(0.28), -(dy + r * np.float32(0.52))
    ) * np.float32(0.6)
    whole = np.minimum(np.minimum(wings, body), head)
    picture = over(below, coverage(whole) * alpha, color * RIM)
    picture = over(picture, coverage(whole + np.float32(1.1)) * alpha, _shaded(color, dx, dy, r))
    return over(picture, coverage(beak) * alpha, BEAK)


def _saucer(below: Array, dx: Array, dy: Array, r: Array, color: Array, alpha: Array, beat: Array) -> Array:
    disc = np.sqrt((dx * np.float32(0.36)) ** 2 + (dy - r * np.float32(0.1)) ** 2) - r * np.float32(0.48)
    dome = np.maximum(np.sqrt(dx * dx + (dy + r * np.float32(0.15)) ** 2) - r * np.float32(0.62), dy)
    lamps = np.sqrt(
        (np.abs(dx) - r * np.float32(0.75)) ** 2 + (dy - r * np.float32(0.14)) ** 2
    ) - r * np.float32(0.15)
    middle = np.sqrt(dx * dx + (dy - r * np.float32(0.24)) ** 2) - r * np.float32(0.15)
    picture = over(below, coverage(dome) * alpha, GLASS * RIM)
    picture = over(picture, coverage(dome + 1) * alpha, GLASS)
    picture = over(picture, coverage(disc) * alpha, color * RIM)
    picture = over(picture, coverage(disc + 1) * alpha, _shaded(color, dx, dy, r))
    return over(picture, coverage(np.minimum(lamps, middle)) * alpha, LAMP)


Draw = Callable[[Array, Array, Array, Array, Array, Array, Array], Array]
"""Over pictures [f h w 3]: offsets from the middle [f h w], radius, colour, opacity and beat [f 1 1 ...]."""
OBJECTS: tuple[Draw, ...] = (_balloon, _boat, _star, _kite, _bird, _saucer)
