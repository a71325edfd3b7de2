"""Schedules against their formula, groups, masks, clipping, and the reference's shared floor."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.linen import LogicallyPartitioned

from ebm_jax.algorithm import GroupOptions
from ebm_jax.errors import UserError
from ebm_jax.optim import OptimConfig, decayed, learning_rates, make_optimizer, schedule

CONFIG = OptimConfig(peak_lr=2e-3, warmup_steps=10, decay_steps=110, final_lr_ratio=0.1)


def cosine(peak, floor, t):
    return floor + (peak - floor) * (1 + math.cos(math.pi * (t - 10) / 100)) / 2


@pytest.mark.parametrize(
    ("kind", "step", "expected"),
    [
        ("cosine", 0, 0.0),
        ("cosine", 5, 1e-3),
        ("cosine", 10, 2e-3),
        ("cosine", 35, cosine(2e-3, 2e-4, 35)),
        ("cosine", 110, 2e-4),
        ("cosine", 10**6, 2e-4),
        ("linear", 60, 1.1e-3),
        ("linear", 200, 2e-4),
        ("constant", 3, 6e-4),
        ("constant", 10**6, 2e-3),
    ],
)
def test_schedule_is_its_formula(kind, step, expected):
    config = OptimConfig(peak_lr=2e-3, warmup_steps=10, decay_steps=110, schedule=kind)
    assert float(schedule(config)(step)) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_no_warmup_starts_at_the_peak():
    assert float(schedule(OptimConfig(peak_lr=1.0, warmup_steps=0))(0)) == 1.0


@pytest.mark.parametrize("shared", [False, True])
def test_groups_have_their_own_peak_and_floor(shared):
    config = OptimConfig(peak_lr=1.2e-3, warmup_steps=10, decay_steps=110, shared_floor=shared)
    options = {
        "default": GroupOptions(),
        "step_size": GroupOptions(lr_multiplier=1500.0),
        "frozen": GroupOptions(trainable=False),
    }
    at_peak, at_end = (jax.device_get(learning_rates(config, options, t)) for t in (10, 110))
    assert set(at_peak) == {"default", "step_size"}
    assert at_peak["step_size"] == pytest.approx(1.8)
    assert at_end["default"] == pytest.approx(1.2e-4)
    assert at_end["step_size"] == pytest.approx(1.2e-4 if shared else 0.18)


PARAMS = {"w": jnp.full((2, 3), 2.0), "gain": jnp.ones(3), "alpha": jnp.ones(()), "fixed": jnp.ones(2)}
GROUPS = {"w": "default", "gain": "default", "alpha": "alpha", "fixed": "fixed"}
OPTIONS = {
    "default": GroupOptions(),
    "alpha": GroupOptions(lr_multiplier=100.0, weight_decay=0.0),
    "fixed": GroupOptions(trainable=False),
}


def first_update(config, grads):
    optimizer = make_optimizer(config, PARAMS, GROUPS, OPTIONS)
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    return updates


def test_first_update_by_hand():
    config = OptimConfig(peak_lr=0.1, warmup_steps=0, weight_decay=0.01, clip_norm=None, decay_mask="matrices")
    updates = first_update(config, jax.tree.map(lambda p: jnp.full_like(p, 0.5), PARAMS))
    np.testing.assert_allclose(updates["w"], -0.1 * (1 + 0.01 * 2.0), rtol=1e-5)
    np.testing.assert_allclose(updates["gain"], -0.1, rtol=1e-5)
    np.testing.assert_allclose(updates["alpha"], -10.0, rtol=1e-5)
    np.testing.assert_array_equal(updates["fixed"], 0.0)


def test_everything_is_decayed_by_default_but_groups_that_say_no():
    config = OptimConfig(peak_lr=0.1, warmup_steps=0, weight_decay=0.01)
    updates = first_update(config, jax.tree.map(jnp.zeros_like, PARAMS))
    np.testing.assert_allclose(updates["gain"], -0.1 * 0.01, rtol=1e-5)
    assert float(updates["alpha"]) == 0.0


def test_clipping_is_global_and_ignores_what_is_not_trained():
    config = OptimConfig(peak_lr=1.0, warmup_steps=0, weight_decay=0.0, clip_norm=1.0, eps=1.0)
    grads = {"w": jnp.zeros((2, 3)), "gain": jnp.zeros(3), "alpha": jnp.full((), 4.0), "fixed": jnp.full(2, 1e9)}
    # Clipped to 1, the first update is lr * 1 / (1 + eps).
    assert float(first_update(config, grads)["alpha"]) == pytest.approx(-100.0 * 0.5, rel=1e-4)


def test_stacked_layers_are_not_an_axis_of_the_weight():
    params = {
        "gain": LogicallyPartitioned(jnp.ones((4, 8)), names=("layers", "embed")),
        "kernel": LogicallyPartitioned(jnp.ones((4, 8, 8)), names=("layers", "embed", "mlp")),
        "plain": jnp.ones((4, 8)),
    }
    assert decayed(params, "matrices") == {"gain": False, "kernel": True, "plain": True}
    assert all(decayed(params, "all").values())


def test_single_group_is_adamw():
    params = {"w": jnp.arange(6.0).reshape(2, 3)}
    grads = {"w": jnp.sin(params["w"])}
    ours = make_optimizer(OptimConfig(peak_lr=0.1, warmup_steps=0, schedule="constant", clip_norm=None), params)
    theirs = optax.adamw(0.1, weight_decay=0.01)
    results = []
    for optimizer in (ours, theirs):
        state, value = optimizer.init(params), params
        for _ in range(3):
            updates, state = optimizer.update(grads, state, value)
            value = optax.apply_updates(value, updates)
        results.append(value["w"])
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_mistakes():
    with pytest.raises(UserError, match=r"decay_steps=10 .* exceed optim.warmup_steps=10"):
        OptimConfig(warmup_steps=10, decay_steps=10)
    with pytest.raises(UserError, match="schedule='cosin' is not one of"):
        OptimConfig(schedule="cosin")
    with pytest.raises(UserError, match="parameter w is in the group 'other'"):
        make_optimizer(CONFIG, {"w": jnp.ones(1)}, {"w": "other"})
