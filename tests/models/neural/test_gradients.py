from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse as sp
from scipy.special import log_softmax

from windvane.models.neural.gradients import (
    backward,
    cross_entropy_gradient,
    fit_input_scale,
    initial_parameters,
    squared_error_gradient,
)
from windvane.runtime.models.realmlp import (
    MIXED,
    WAVES,
    Activation,
    NetworkSpec,
    activate,
    activation_gradient,
    find_scores,
    forward,
    smooth_clip,
)

ACTIVATIONS: list[Activation] = ["selu", "relu"]


def network(spec: NetworkSpec, n: int = 7, seed: int = 0) -> tuple[Any, Any, list[Any]]:
    """Draw parameters, features and masks, all of float64."""
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=spec.size) / 2
    masks = [rng.choice([0.0, 1.5], size=(n, width)) for width in spec.hidden]
    return flat, rng.normal(size=(n, spec.inputs)), masks


def slowly(spec: NetworkSpec, flat: Any, features: Any, masks: list[Any]) -> Any:
    """Scores of a network, row by row and number by number."""
    parts, found = spec.views(flat), []
    for row in features:
        inputs = list(row)
        for j in range(spec.embedded):
            waves = [
                np.cos(2 * np.pi * parts["frequencies"][j, w] * row[j] + parts["phases"][j, w]) for w in range(WAVES)
            ]
            inputs += [parts["offset"][j, m] + waves @ parts["mix"][j, :, m] for m in range(MIXED)]
        values = np.array(inputs) * parts["scale"]
        for i, mask in enumerate(masks):
            z = values @ parts[f"weights_{i}"] + parts[f"bias_{i}"]
            if spec.activation == "relu":
                values = np.maximum(z, 0)
            else:
                values = 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z))
            values = values * mask[len(found)]
        found.append(values @ parts[f"weights_{len(masks)}"] + parts[f"bias_{len(masks)}"])
    return np.array(found)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("embedded", [0, 2])
@pytest.mark.parametrize("hidden", [(5,), (6, 4, 5)])
def test_scores_are_those_of_the_plain_definition(
    activation: Activation, embedded: int, hidden: tuple[int, ...]
) -> None:
    spec = NetworkSpec(3, embedded, hidden, 2, activation)
    flat, features, masks = network(spec)
    trail = forward(spec, spec.views(flat), features, iter(masks))
    np.testing.assert_allclose(trail.scores, slowly(spec, flat, features, masks), rtol=1e-12)
    ones = [np.ones_like(mask) for mask in masks]
    np.testing.assert_allclose(
        find_scores(spec, spec.views(flat), features), slowly(spec, flat, features, ones), rtol=1e-12
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("embedded", [0, 2])
def test_the_gradient_is_that_of_finite_differences(activation: Activation, embedded: int) -> None:
    spec = NetworkSpec(3, embedded, (6, 4), 3, activation)
    flat, features, masks = network(spec)
    target, weight = np.array([0, 1, 2, 0, 1, 2, 1]), np.linspace(0.5, 1.5, 7)

    def loss(at: Any) -> float:
        logs = log_softmax(forward(spec, spec.views(at), features, iter(masks)).scores, axis=1)
        truth = 0.9 * np.eye(3)[target] + 0.1 / 3
        return float(-(weight[:, None] * truth * logs).sum() / 7)

    gradient = np.full(spec.size, np.nan)
    parts = spec.views(flat)
    trail = forward(spec, parts, features, iter(masks))
    delta = cross_entropy_gradient(trail.scores, target, weight, 0.1)
    backward(spec, parts, trail, delta, spec.views(gradient))
    steps = 1e-6 * np.eye(spec.size)
    slow = np.array([(loss(flat + step) - loss(flat - step)) / 2e-6 for step in steps])
    np.testing.assert_allclose(gradient, slow, atol=1e-8)


def test_the_gradient_of_squared_errors_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    scores, target, weight = rng.normal(size=(5, 1)), rng.normal(size=5), rng.random(5)
    for given in (None, weight):
        mass = np.ones(5) if given is None else given
        slow = [
            (
                np.mean(mass * (scores[:, 0] + step - target) ** 2 / 2)
                - np.mean(mass * (scores[:, 0] - step - target) ** 2 / 2)
            )
            / 2e-6
            for step in 1e-6 * np.eye(5)
        ]
        np.testing.assert_allclose(squared_error_gradient(scores, target, given)[:, 0], slow, atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_activations_keep_their_type_and_stand_large_numbers(activation: Activation, kind: Any) -> None:
    z = np.array([-1e30, -100, -1, 0, 1, 100, 1e30], dtype=kind)
    value = activate(z, activation)
    derivative = activation_gradient(z, value, activation)
    assert value.dtype == derivative.dtype == kind
    np.testing.assert_allclose(value[-2:] / z[-2:], value[-1] / z[-1], rtol=1e-6)
    np.testing.assert_allclose(derivative[-2:], value[-1] / z[-1], rtol=1e-6)
    np.testing.assert_allclose(derivative[:2], 0, atol=1e-6)
    assert np.isfinite(value).all()


def test_sparse_features_give_what_dense_ones_give() -> None:
    spec = NetworkSpec(6, 0, (4, 3), 2, "selu")
    flat, features, masks = network(spec)
    features[features < 0.5] = 0
    parts, target = spec.views(flat), np.array([0, 1, 0, 1, 0, 1, 1])
    gradients = []
    for given in (features, sp.csr_matrix(features)):
        gradient = np.empty(spec.size)
        trail = forward(spec, parts, smooth_clip(given, np.ones(6)), iter(masks))
        backward(spec, parts, trail, cross_entropy_gradient(trail.scores, target, None, 0.0), spec.views(gradient))
        gradients.append(gradient)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-12, atol=1e-15)


def test_squashed_numbers_stay_within_their_bounds() -> None:
    features = np.array([[0.0, 1e-4, 5], [1.0, 3e-4, 5], [-1e38, 2e-4, 5]], dtype=np.float32)
    input_scale = fit_input_scale(features)
    np.testing.assert_allclose(input_scale, [1, 5000, 1], rtol=1e-4)
    found = smooth_clip(features, input_scale)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[1, 0], 1 / np.sqrt(1 + 1 / 9), rtol=1e-6)
    np.testing.assert_allclose(found[2, 0], -3, rtol=1e-6)
    assert np.ptp(found[:, 1]) > 0.5
    rows = sp.csr_matrix(features)
    np.testing.assert_allclose(
        smooth_clip(rows, fit_input_scale(rows)).toarray(), smooth_clip(features, np.ones(3)), rtol=1e-6
    )
    assert rows[2, 0] == np.float32(-1e38)  # what came is not written over


@pytest.mark.parametrize("embedded", [0, 3])
def test_the_first_parameters_give_units_a_spread_of_one(embedded: int) -> None:
    rng = np.random.default_rng(0)
    features = np.hstack([rng.normal(size=(3000, 3)), rng.random((3000, 40)) < 0.02]).astype(np.float32)
    spec = NetworkSpec(43, embedded, (30, 20), 3, "selu")
    flat = initial_parameters(spec, features, 0.1, np.log([0.2, 0.3, 0.5]), np.random.default_rng(1))
    parts = spec.views(flat)
    trail = forward(spec, parts, features)
    np.testing.assert_allclose(trail.scores, np.tile(np.log([0.2, 0.3, 0.5]), (3000, 1)), rtol=1e-6)
    z = (trail.hidden[0] @ parts["weights_1"]).std(axis=0)
    assert flat.dtype == np.float32 and z.min() > 0.7 and z.max() < 1.3
    inputs = features if trail.columns is None else np.hstack([features, trail.columns])
    assert (inputs @ parts["weights_0"]).std(axis=0).min() > 0.7
    constant = initial_parameters(spec, np.zeros_like(features), 0.1, np.zeros(3), np.random.default_rng(1))
    assert np.isfinite(constant).all()


def test_views_write_into_the_flat_array() -> None:
    spec = NetworkSpec(2, 1, (3,), 1, "relu")
    flat = np.arange(spec.size, dtype=np.float32)
    parts = spec.views(flat)
    assert sum(part.size for part in parts.values()) == spec.size
    parts["bias_1"][:] = -1
    assert flat[-1] == -1
