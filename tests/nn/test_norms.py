"""Normalisations against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ebm_jax.errors import UserError
from ebm_jax.nn.norms import KINDS, init_norm, norm

WIDTH, EPS = 6, 1e-5
X = np.random.default_rng(0).standard_normal((3, WIDTH))
GAIN, SHIFT = 1 + 0.1 * np.arange(WIDTH), 0.2 * np.arange(WIDTH)
EXPECTED = {
    "none": X,
    "rms": X / np.sqrt((X**2).mean(-1, keepdims=True) + EPS) * GAIN,
    "layer": (X - X.mean(-1, keepdims=True)) / np.sqrt(X.var(-1, keepdims=True) + EPS) * GAIN + SHIFT,
    "dyt": np.tanh(0.5 * X) * GAIN + SHIFT,
}


@pytest.mark.parametrize("kind", KINDS)
def test_formula(kind, x64):
    params = nn.meta.unbox(init_norm(kind, WIDTH)(jax.random.key(0), jnp.float64))
    names = {"none": set(), "rms": {"scale"}, "layer": {"scale", "bias"}, "dyt": {"scale", "bias", "alpha"}}
    assert set(params) == names[kind]
    params |= {k: jnp.asarray(v) for k, v in {"scale": GAIN, "bias": SHIFT}.items() if k in params}
    np.testing.assert_allclose(norm(kind, params, jnp.asarray(X), EPS), EXPECTED[kind], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_in_and_out_with_wide_statistics(kind):
    params = nn.meta.unbox(init_norm(kind, WIDTH)(jax.random.key(0), jnp.bfloat16))
    tiny = jnp.asarray(1e-20 * X, jnp.bfloat16)
    out = norm(kind, params, tiny, EPS)
    assert out.dtype == jnp.bfloat16
    assert np.isfinite(np.asarray(out, np.float32)).all()


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match="norm 'batch' is not one of rms, layer, dyt, none"):
        init_norm("batch", WIDTH)
