"""Log-probabilities made a piece at a time are those of the whole log-softmax: values, entropies and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithms import token_log_probs as module
from ebm_jax.algorithms.ebft import EBFT, EBFTConfig
from ebm_jax.algorithms.token_log_probs import token_log_probs
from ebm_jax.decoding.anchors import AnchorConfig, prompt_of
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.models.features import FeatureConfig
from tests import tiny

pytestmark = pytest.mark.usefixtures("x64")
ROWS, LENGTH, KINDS = 2, 11, 3


@pytest.fixture(params=["whole", "in pieces"])
def pieces(request, monkeypatch):
    """Pieces of 4 positions at most do not divide 11."""
    if request.param == "in pieces":
        monkeypatch.setattr(module, "WIDE", 1)
        monkeypatch.setattr(module, "ROWS", 4)
    return request.param == "in pieces"


def given(tied):
    algorithm = tiny.lm(model={"tied": tied})
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.standard_normal((ROWS, LENGTH, tiny.WIDTH)))
    targets = jnp.asarray(rng.integers(0, tiny.VOCAB, (ROWS, LENGTH, KINDS)), jnp.int32)
    return algorithm.model, tiny.generic(tiny.shapes(algorithm).params), hidden, targets


def dense(network, params, hidden, targets, temperature):
    logits = network.apply({"params": params}, hidden, method="logits") / temperature
    log_probs = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(log_probs, targets, -1), -jnp.sum(jnp.exp(log_probs) * log_probs, -1)


@pytest.mark.parametrize(("tied", "temperature"), [(True, 1.0), (False, 0.6)])
def test_pieces_are_the_whole(pieces, tied, temperature):
    network, params, hidden, targets = given(tied)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal((ROWS, LENGTH, KINDS + 1)))

    def loss(function):
        def total(params, hidden):
            log_probs, entropy = function(network, params, hidden, targets, temperature)
            return jnp.sum(weights * jnp.concatenate([log_probs, entropy[..., None]], -1)), (log_probs, entropy)

        return tiny.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(params, hidden)

    (_, ours), gradient = loss(lambda *args: tuple(token_log_probs(*args, entropy=True)))
    (_, expected), exact = loss(dense)
    tiny.assert_trees_close(ours, expected, 1e-13)
    tiny.assert_trees_close(gradient, exact, 1e-12)
    plain = tiny.jit(lambda p: token_log_probs(network, p, hidden, targets, temperature))(params)
    assert plain.entropy_BxT is None
    np.testing.assert_allclose(plain.log_probs_BxTxK, expected[0], rtol=0, atol=1e-13)


def test_no_positions_have_no_log_probs(pieces):
    network, params, hidden, targets = given(True)
    ours = token_log_probs(network, params, hidden[:, :0], targets[:, :0], entropy=True)
    assert ours.log_probs_BxTxK.shape == (ROWS, 0, KINDS) and ours.entropy_BxT.shape == (ROWS, 0)


@pytest.mark.parametrize("pieces", ["in pieces"], indirect=True)
def test_continuations_of_one_token_are_trained_on(pieces):
    """Nothing of them is read again: their log-probabilities are those of the prompt's states."""
    config = EBFTConfig(
        samples=2,
        anchors=AnchorConfig(prefix=1, stride=1, steps=1),
        features=FeatureConfig(depths=(1.0,), dtype="float64"),
        sampling=SamplingConfig(temperature=0.7),
        entropy=0.1,
    )
    algorithm = EBFT(config, tiny.transformer(), tiny.VOCAB, tiny.DOUBLE)
    variables = tiny.generic(tiny.shapes(algorithm))
    key = jax.random.key(0)

    @tiny.jit
    def step(params):
        batch = algorithm.augment(variables, tiny.batch(), key, 0)
        return batch, algorithm.loss(params, variables, batch, key, 0).metrics

    batch, metrics = step(variables.params)
    assert batch["continuations"].shape == (2, 2, tiny.LENGTH - 1, 1)
    prompt = prompt_of(batch, config.anchors)
    logits = algorithm.model.apply({"params": variables.params}, *prompt) / 0.7
    before = np.asarray(jax.nn.log_softmax(logits))[:, None, :-1]
    made = np.asarray(batch["continuations"])
    expected = np.take_along_axis(np.broadcast_to(before, (2, *before.shape[1:])).repeat(2, 1), made, -1)
    np.testing.assert_allclose(batch["sampler_log_probs"], expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(metrics["sampler_gap"].mean(), 0, atol=1e-13)
    np.testing.assert_allclose(metrics["entropy"].mean(), -np.mean(np.sum(np.exp(before) * before, -1)), rtol=1e-12)


def test_logits_of_all_positions_never_exist_at_once(monkeypatch):
    monkeypatch.setattr(module, "WIDE", 1)
    monkeypatch.setattr(module, "ROWS", 4)
    network, params, hidden, targets = given(False)

    def loss(params, hidden):
        return jnp.sum(token_log_probs(network, params, hidden, targets, entropy=True).log_probs_BxTxK)

    program = jax.jit(jax.grad(loss, (0, 1))).lower(params, hidden).as_text()
    assert f"{ROWS}x4x{tiny.VOCAB}xf64" in program
    for positions in (LENGTH, 12):
        assert f"{ROWS}x{positions}x{tiny.VOCAB}x" not in program and f"3x{ROWS}x4x{tiny.VOCAB}x" not in program
