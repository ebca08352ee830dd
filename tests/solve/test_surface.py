"""Surfaces through polynomials that are known."""

import numpy as np
import pytest

from alignvec.errors import DataError
from alignvec.solve.box import Axis, Box, Points
from alignvec.solve.surface import Array, Surface, terms

BOX = Box((Axis("a", -1.0, 1.0, True), Axis("b", -1.0, 1.0, False), Axis("c", -1.5, 1.0, True)))


def truth(points: Points) -> Array:
    a, b, c = points.T
    bent = np.maximum(a, 0) * 0.5 - np.maximum(-a, 0) * 2.0 + 0.3 * a**2
    return np.stack([bent + b * np.maximum(c, 0), c**2 - 0.2 * b, 0.1 * np.maximum(-a, 0) * b], axis=1)


def test_a_polynomial_with_a_bend_is_found_again() -> None:
    design = BOX.design(45, seed=0)
    surface = Surface(BOX, design, truth(design))
    unseen = BOX.random(200, seed=1)
    assert np.abs(surface.predict(unseen) - truth(unseen)).max() < 0.01
    assert surface.fit.left_out_error < 0.01 and surface.fit.settings == 45
    assert surface.fit.spread == pytest.approx(np.sqrt(np.mean(truth(design) ** 2)))


def test_the_base_does_not_change() -> None:
    design = BOX.design(40, seed=0)
    surface = Surface(BOX, design, truth(design) + np.random.default_rng(0).normal(size=(40, 3)))
    assert not terms(BOX, np.zeros((1, 3)), 3).any() and not surface.predict(np.zeros((2, 3))).any()


def test_the_left_out_error_is_that_of_leaving_out() -> None:
    design = BOX.design(30, seed=2)
    noisy = truth(design) + np.random.default_rng(1).normal(scale=0.2, size=(30, 3))
    surface = Surface(BOX, design, noisy, degrees=(2,))
    x, ridge = terms(BOX, design, 2), surface.fit.ridge
    errors = []
    for i in range(30):
        kept = np.arange(30) != i
        weights = np.linalg.solve(x[kept].T @ x[kept] + ridge * np.eye(x.shape[1]), x[kept].T @ noisy[kept])
        errors.append(x[i] @ weights - noisy[i])
    assert surface.fit.left_out_error == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))))


def test_too_little_and_broken_measurements_are_refused() -> None:
    design = BOX.design(10, seed=0)
    with pytest.raises(DataError, match="measure more"):
        Surface(BOX, design[:2], truth(design[:2]))
    with pytest.raises(DataError, match="not finite"):
        Surface(BOX, design, np.full((10, 3), np.nan))
