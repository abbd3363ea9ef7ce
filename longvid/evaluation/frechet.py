"""The Fréchet distance between two sets of features, each taken for a Gaussian (Heusel et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPONENTS = 64
"""Principal components of the reference that features are reduced to, at most."""


def frechet_distance(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    other_mean: NDArray[np.float64],
    other_covariance: NDArray[np.float64],
) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two Gaussians: means [d], covariances [d d]; at least 0.

    The root's trace is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric, so covariances of less than
    full rank are no trouble.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ other_covariance @ root)
    shared = 2 * float(np.sqrt(np.maximum(product, 0)).sum())
    away = float(((mean - other_mean) ** 2).sum())
    return max(away + float(np.trace(covariance) + np.trace(other_covariance)) - shared, 0.0)


@dataclass(frozen=True)
class Distance:
    """``value``: in squared units of the features. ``n``: clips of either set that it is taken over.
    ``dimensions``: of the features, or principal components of the reference's."""

    value: float
    n: int
    dimensions: int


def distance(
    features: NDArray[np.float32], reference: NDArray[np.float32], components: int | None = COMPONENTS
) -> Distance:
    """Of features [n d] from those of a reference [m d], in the reference's first principal components; or as
    they are, where that is None.

    It depends on how many there are, so of both as many are taken as the smaller set has, evenly over the
    larger. Raises ValueError for fewer than two of either.
    """
    n = min(len(features), len(reference))
    if n < 2:
        raise ValueError("a covariance takes two clips at least")
    chosen, wanted = (
        whole[np.linspace(0, len(whole) - 1, n).round().astype(int)].astype(np.float64)
        for whole in (features, reference)
    )
    if components is not None:
        centre = wanted.mean(axis=0)
        _, _, directions = np.linalg.svd(wanted - centre, full_matrices=False)
        directions = directions[: min(components, n - 1)]
        chosen, wanted = (chosen - centre) @ directions.T, (wanted - centre) @ directions.T
    moments = [
        moment
        for those in (chosen, wanted)
        for moment in (those.mean(axis=0), np.atleast_2d(np.cov(those, rowvar=False)))
    ]
    return Distance(frechet_distance(*moments), n, chosen.shape[1])
