"""Attention against the textbook softmax, in one stream and with a key of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.nn.attention import attend, attend_with_self, require_order, visibility

pytestmark = pytest.mark.usefixtures("x64")
SHAPE = (2, 3, 4, 6)


def arrays(count, scale=1.0, dtype=np.float64):
    return [jnp.asarray(scale * np.random.default_rng(k).standard_normal(SHAPE), dtype) for k in range(count)]


def textbook(q, k, v, visible):
    scores = np.einsum("bhtc,bhsc->bhts", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(visible, scores, -np.inf)
    probs = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhts,bhsc->bhtc", probs / probs.sum(-1, keepdims=True), v)


def causal():
    return visibility(jnp.asarray([[1, 1, 1, 1], [1, 1, 2, 2]], jnp.int32))


def test_visibility_is_causal_inside_a_document():
    first, second = np.asarray(causal())[:, 0].astype(int).tolist()
    assert first == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert second == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_padding_sees_itself_so_that_no_row_is_empty():
    visible = np.asarray(visibility(jnp.asarray([[1, 0, 0]], jnp.int32)))[0, 0]
    assert visible.any(-1).all()
    assert not visible[1, 0]


def test_one_stream():
    q, k, v = arrays(3)
    np.testing.assert_allclose(attend(q, k, v, causal()), textbook(q, k, v, causal()), rtol=0, atol=1e-14)


@pytest.mark.parametrize("groups", [1, 3])
def test_many_queries_in_pieces_are_the_whole(monkeypatch, groups):
    """With their gradients, where pieces do not divide the length, and without an array of all scores."""
    rng = np.random.default_rng(0)
    q = jnp.asarray(rng.standard_normal((2, 3, 11, 6)))
    k, v = (jnp.asarray(rng.standard_normal((2, groups, 11, 6))) for _ in range(2))
    visible = visibility(jnp.asarray(np.repeat([[1, 1, 2], [1, 2, 2]], [4, 3, 4], axis=1), jnp.int32))
    loss = lambda *x: jnp.sum(jnp.sin(attend(*x, visible)))
    both = lambda: (attend(q, k, v, visible), jax.jit(jax.grad(loss, (0, 1, 2)))(q, k, v))
    whole, whole_gradients = both()
    monkeypatch.setattr("ebm_jax.nn.attention.WHOLE", 8)
    monkeypatch.setattr("ebm_jax.nn.attention.PIECE", 4)
    jax.clear_caches()
    pieces, gradients = both()
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-14)
    for ours, expected in zip(gradients, whole_gradients, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)
    program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, k, v).as_text()
    assert "x4x11xf64" in program and "x11x11xf64" not in program


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_key_of_one_s_own_is_a_diagonal_beside_the_mask(scale):
    """Large scores too: either side may hold the maximum."""
    q, k, v, own_k, own_v = arrays(5, scale)
    own = np.broadcast_to(np.eye(SHAPE[2], dtype=bool), (SHAPE[0], 1, SHAPE[2], SHAPE[2]))
    expected = textbook(
        q, np.concatenate([k, own_k], 2), np.concatenate([v, own_v], 2), np.concatenate([causal(), own], -1)
    )
    np.testing.assert_allclose(attend_with_self(q, k, v, own_k, own_v, causal()), expected, rtol=0, atol=1e-12 * scale)


def test_gradients_of_a_gradient_are_finite_under_a_mask():
    """Masked scores are minus infinity; neither derivative may turn them into NaN."""
    q, k, v, own_k, own_v = arrays(5)
    inner = lambda q: attend_with_self(q, k, v, own_k, own_v, causal()).sum()
    outer = jax.jit(jax.grad(lambda q: jnp.sum(jax.grad(inner)(q) ** 2)))(q)
    assert np.isfinite(outer).all()
    h = 1e-6
    direction = arrays(6)[-1]
    size = lambda q: float(jnp.sum(jax.grad(inner)(q) ** 2))
    slope = (size(q + h * direction) - size(q - h * direction)) / (2 * h)
    np.testing.assert_allclose(jnp.sum(outer * direction), slope, rtol=1e-6)


def test_half_precision_keeps_its_type_and_its_sums():
    wide = arrays(5)
    q, k, v, own_k, own_v = (x.astype(jnp.bfloat16) for x in wide)
    for ours, exact in (
        (attend(q, k, v, causal()), attend(*wide[:3], causal())),
        (attend_with_self(q, k, v, own_k, own_v, causal()), attend_with_self(*wide, causal())),
    ):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=0, atol=0.05)


def test_an_impossible_order_is_refused():
    require_order("xla", 2)
    require_order("cudnn", 1)
    with pytest.raises(UserError, match="use attention='xla'"):
        require_order("cudnn", 2)
    with pytest.raises(UserError, match="'flash' is not one of xla, cudnn"):
        require_order("flash", 1)
