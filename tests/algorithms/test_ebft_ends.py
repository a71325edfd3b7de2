"""Texts that end before their tokens do (``end=mask_after``): what follows the end is not looked at."""

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of, true_continuations
from ebm_jax.models.features import POOLS, FeatureConfig, token_features
from ebm_jax.rng import root_key
from tests.algorithms.tiny_ebft import ebft, some_rows, variables_of
from tests.tiny import jit

END, DEPTHS, WIDTH = 7, (1, 2), 16
LONG = AnchorConfig(steps=3, stride=1, prefix=2)


def of_pool(pool):
    features = FeatureConfig(pool=pool, norm="per_layer", depths=DEPTHS, dtype="float64")
    algorithm = ebft(anchors=LONG, end="mask_after", features=features, model={"depth": 2})
    algorithm.end = END
    return algorithm


def texts():
    """Rows and three samples of each of their two blocks; some of both end after one token, or two, or three."""
    batch, made = some_rows(), np.random.default_rng(3).integers(1, END, (2, 3, 2, 3))
    for place in ((0, 0, 0, 0), (0, 1, 1, 1), (1, 2, 0, 2), (1, 0, 1, 0), (1, 0, 1, 2)):
        made[place] = END
    batch["inputs"] = batch["inputs"].at[0, 3].set(END)
    return batch, made


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_texts_that_end_have_the_features_of_what_they_say():
    """Each continuation, sampled or true, as if its end were the last of its tokens."""
    batch, made = texts()
    of_last = of_pool("last")
    frozen = variables_of(of_last).frozen
    branches = lambda rows, anchors: branches_of(rows, anchors, root_key(0))

    def of_length(length):
        """Features of all tokens where nothing is longer than ``length``."""
        anchors = AnchorConfig(steps=length, stride=1, prefix=2)
        rows = {name: value[:, : 3 + length] if value.ndim == 2 else value for name, value in batch.items()}
        config, cut = of_last.config.features, jnp.asarray(made[..., :length])
        where = prompt_of(rows, anchors), cut, branches(rows, anchors)
        found = token_features(of_last.feature_network, frozen["features"], config, DEPTHS, *where)
        return [jnp.concatenate(part, -1) for part in found]

    def everything():
        here = jnp.asarray(made), branches(batch, LONG)
        grams = {pool: of_pool(pool).grams(frozen, batch, *here) for pool in POOLS}
        return grams, {length: of_length(length) for length in (1, 2, 3)}, true_continuations(batch["inputs"], here[1])

    grams, by_length, true = jit(everything)()

    def features_of(tokens, part, place, pool):
        """Of one text, ``[T or 1, E]``."""
        length = int(np.argmax(tokens == END)) + 1 if END in tokens else 3
        phi = np.zeros((3, WIDTH))
        phi[:length] = by_length[length][part][place]
        return {"last": phi[length - 1 : length], "mean": phi[:length].mean(0)[None], "concat": phi.reshape(1, -1)}.get(
            pool, phi
        )

    for row, block, pool in ((r, b, pool) for r in range(2) for b in range(2) for pool in POOLS):
        phi = np.stack([features_of(made[row, g, block], 0, (row, g, block), pool) for g in range(3)])
        phi_y = features_of(np.asarray(true)[row, block], 1, (row, block), pool)
        expected = np.einsum("gte,hte->tgh", phi, phi), np.einsum("gte,te->tg", phi, phi_y), (phi_y**2).sum(-1)
        for ours, theirs in zip(grams[pool], expected, strict=True):
            np.testing.assert_allclose(
                np.asarray(ours[row, block]).reshape(theirs.shape), theirs, atol=1e-10, err_msg=pool
            )
