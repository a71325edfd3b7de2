"""A draft that writes ahead changes nothing of what is sampled."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.markov.speculative import _checked
from ebm_jax.decoding.sampling import SamplingConfig
from tests.decoders import toy_model
from tests.decoders.on_toy import expected, law_of, run
from tests.decoding.markov import toy

PROMPTS = 6000
SHARP, OTHER = toy_model.model(2.0), toy_model.model(-1.0)


@pytest.mark.parametrize("draft", [SHARP, OTHER], ids=["sharp", "contrary"])
def test_samples_have_the_model_s_law(draft):
    found, _ = run(BestOfN(samples=1), range(PROMPTS), draft=draft)
    assert toy.total_variation(law_of(found), toy.P) < 2 * expected(PROMPTS)


def test_so_do_those_at_a_temperature_and_in_a_nucleus():
    cut = SamplingConfig(temperature=0.7, top_p=0.8)
    found, _ = run(BestOfN(samples=1, sampling=cut), range(PROMPTS), draft=SHARP)
    law = np.exp(toy.law(0.7, 0.8).whole_R)
    assert toy.total_variation(law_of(found), law) < 2 * expected(PROMPTS)


def test_greedy_decoding_is_itself():
    greedy = BestOfN(samples=1, sampling=SamplingConfig(temperature=0))
    assert run(greedy, draft=OTHER)[0].responses == run(greedy)[0].responses


@pytest.mark.slow
def test_chains_keep_their_target():
    chain = EBD(target=TargetConfig(inv_temp=toy.INV_TEMP), cuts=CutConfig(law="length"), steps=10, chains=PROMPTS)
    found, _ = run(chain, draft=SHARP)
    assert toy.total_variation(law_of(found), toy.PI) < 2 * expected(PROMPTS)
    alone, _ = run(replace(chain, chains=2), range(3), draft=SHARP)
    assert run(replace(chain, chains=2), [1], draft=SHARP)[0].responses == alone.responses[2:4]


def test_what_is_kept_or_drawn_instead_has_the_law_of_the_model():
    """By quadrature over the two random numbers that decide, for every drafted token."""
    wanted, law = jnp.log(jnp.array([0.5, 0.2, 0.3, 0.0])), jnp.log(jnp.array([0.1, 0.6, 0.1, 0.2]))
    count = 400
    grid = (jnp.arange(count) + 0.5) / count
    accept, instead = (x.reshape(-1) for x in jnp.meshgrid(grid, grid))
    uniform = jnp.stack([jnp.zeros_like(accept), accept, instead], -1)
    same = lambda x: jnp.broadcast_to(x, (count**2, 4))
    found = np.zeros(4)
    for token in range(4):
        made, _ = _checked(same(wanted), same(law), jnp.full(count**2, token), uniform)
        found += np.exp(float(law[token])) * np.bincount(np.asarray(made), minlength=4) / count**2
    np.testing.assert_allclose(found, np.exp(wanted), atol=3 / count)
    # Equal laws keep every token.
    _, kept = _checked(same(law), same(law), jax.random.randint(jax.random.key(0), (count**2,), 0, 4), uniform)
    assert kept.all()
