import numpy as np
import pytest

from longvid.evaluation.frechet import distance, frechet_distance


def test_gaussians_in_closed_form() -> None:
    # Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2.
    mean, other = np.array([1.0, 2, 3]), np.array([1.0, 0, 3])
    spread, others = np.array([1.0, 2, 3]), np.array([2.0, 2, 5])
    found = frechet_distance(mean, np.diag(spread**2), other, np.diag(others**2))
    assert found == pytest.approx(4 + 1 + 0 + 4)


def test_covariances_that_do_not_commute() -> None:
    # For 2 x 2, tr (A B)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)).
    a, b = np.array([[2.0, 1], [1, 3]]), np.array([[5.0, -1], [-1, 1]])
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    zero = np.zeros(2)
    assert frechet_distance(zero, a, zero, b) == pytest.approx(np.trace(a) + np.trace(b) - 2 * root)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(frechet_distance(zero, a, zero, b))


def test_a_covariance_without_full_rank() -> None:
    thin = np.diag([4.0, 0])
    assert frechet_distance(np.zeros(2), thin, np.zeros(2), thin) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(np.zeros(2), thin, np.zeros(2), np.diag([0, 9.0])) == pytest.approx(13)


def test_features_moved_by_a_known_vector() -> None:
    reference = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    found = distance(reference + np.float32(0.5), reference)
    assert found.value == pytest.approx(16 * 0.25, rel=1e-3)
    assert (found.n, found.dimensions) == (200, 16)
    assert distance(reference, reference).value == pytest.approx(0, abs=1e-6)


def test_of_both_as_many_as_the_smaller_has() -> None:
    reference = np.random.default_rng(0).normal(size=(100, 300)).astype(np.float32)
    found = distance(reference[:20], reference)
    assert (found.n, found.dimensions) == (20, 19)
    assert distance(reference, reference[:90]).dimensions == 64
    with pytest.raises(ValueError, match="two clips"):
        distance(reference[:1], reference)


def test_in_all_dimensions_what_the_reference_never_does_counts_too() -> None:
    reference = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    reference[:, -1] = 0
    films = reference.copy()
    films[:, -1] = 3
    assert distance(films, reference, components=None).value == pytest.approx(9, rel=1e-4)
    assert distance(films, reference, components=None).dimensions == 300
    assert distance(films, reference).value == pytest.approx(0, abs=1e-4)
