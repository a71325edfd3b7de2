"""What is measured of continuations beside samples: the loss of true text from anywhere, by its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.anchors import branches_of, prompt_of, true_continuations
from ebm_jax.evals.continuations import MatchingConfig, MatchingEvaluator
from ebm_jax.models.features import FeatureConfig, cut, token_features
from ebm_jax.models.lm import TransformerLM
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.rules import unbox
from ebm_jax.precision import Precision

VOCAB, CONTEXT = 11, 16
MODEL = TransformerLM(TransformerConfig(depth=2, width=16, heads=2), VOCAB, Precision())
CONFIG = MatchingConfig(
    lengths=(1, 3), samples=2, anchors=20, per_row=3, batch_size=4, features=FeatureConfig(depths=(1, 2))
)


def batch_of(number: int) -> dict[str, np.ndarray]:
    """Rows of which the last has two documents and some padding."""
    rng = np.random.default_rng(number)
    inputs = rng.integers(1, VOCAB, (4, CONTEXT)).astype(np.int32)
    segments = np.ones((4, CONTEXT), np.int32)
    segments[3] = [1] * 6 + [2] * 6 + [0] * 4
    positions = np.broadcast_to(np.arange(CONTEXT, dtype=np.int32), inputs.shape).copy()
    positions[3, 6:12] -= 6
    weights = (segments > 0).astype(np.float32)
    index = np.arange(4, dtype=np.uint32) + 4 * number
    return {"inputs": inputs, "targets": np.roll(inputs, -1, 1), "segments": segments, "positions": positions,
            "weights": weights, "index": index}  # fmt: skip


@pytest.mark.slow
def test_the_loss_of_true_text_from_anywhere_is_that_of_all_other_anchors_texts():
    """Two other anchors' texts as the samples of each: in the mean ``|phi|^2 - <phi_i, phi_j>`` over pairs that differ."""
    batches, key = [batch_of(n) for n in range(2)], jax.random.key(1)
    row = [jnp.asarray(batches[0][name]) for name in ("inputs", "positions", "segments")]
    params = unbox(MODEL.init(jax.random.key(0), *row)["params"])
    evaluator = MatchingEvaluator(MODEL, CONFIG, None, lambda batch: {k: jnp.asarray(v) for k, v in batch.items()})
    weights = cut(params, evaluator.feature_network)
    measured = evaluator(params, weights, batches, key)

    found = []
    for batch in batches:
        batch = {name: jnp.asarray(value) for name, value in batch.items()}
        branches, prompt = branches_of(batch, CONFIG.branching, key), prompt_of(batch, CONFIG.branching)
        true = true_continuations(prompt.tokens, branches)[:, None]
        parts = token_features(
            evaluator.feature_network, weights, CONFIG.features, (1, 2), prompt, true, branches
        ).truth
        found.append(np.concatenate(parts, -1)[np.asarray(branches.there_BxS) > 0][:, [0, 2]])
    phi_AxLxE = np.concatenate(found).astype(np.float64)
    number = len(phi_AxLxE)
    assert number == len(measured.row_A) > 10
    pairs = [phi_AxLxE[i] * phi_AxLxE[j] for i in range(number) for j in range(number) if i != j]
    expected = np.sum(phi_AxLxE**2, -1).mean(0) - np.sum(pairs, -1).mean(0)
    np.testing.assert_allclose(measured.unconditional_L, expected, rtol=1e-5)
