"""Moves of several responses on the toy, by their matrices: multi-try, resampling, delayed acceptance, exchanges."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.markov.acceptance import TargetConfig, Weighed, log_accept, log_accept_delayed, log_swap
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.markov.multi_try import log_taken
from ebm_jax.errors import UserError
from tests.decoding.markov import toy
from tests.decoding.markov.test_exact import TEMPERED, TILT, balanced, log_kappa, transitions
from tests.decoding.markov.toy import BASE, HORIZON, INV_TEMP, LENGTHS, PI, RESPONSES, REWARDS, P


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def several(tries: int, cuts: CutConfig, rule: str, block: int = 1, proposal=BASE) -> np.ndarray:
    """The matrix of a chain that draws ``tries`` suffixes from every cut: all their tuples are gone through."""
    kappa, number = log_kappa(cuts, block), len(RESPONSES)
    matrix = np.zeros((number, number))
    for c, old in itertools.product(range(HORIZON), range(number)):
        if LENGTHS[old] <= c or not np.isfinite(kappa[old, c]):
            continue
        can = np.flatnonzero(toy.SAME[c, old] & (c < LENGTHS))
        drawn = proposal.each_RxH[can, c:].sum(-1)
        tuples = np.array(list(itertools.product(range(len(can)), repeat=tries)))
        chance = np.exp(kappa[old, c] + drawn[tuples].sum(-1))

        def weighed(of, c=c):
            rows = map(jnp.asarray, (REWARDS[of], kappa[of, c], BASE.each_RxH[of], proposal.each_RxH[of]))
            return Weighed(*rows)

        log_w = np.asarray(log_accept(TILT, weighed(np.full(len(can), old)), weighed(can), jnp.full(len(can), c)))
        taken = np.exp(np.asarray(log_taken(jnp.asarray(log_w[tuples]), rule)))
        np.testing.assert_allclose(taken.sum(-1), 1, atol=1e-12)
        for j in range(tries):
            np.add.at(matrix[old], can[tuples[:, j]], chance * taken[:, j])
    matrix[np.diag_indices(number)] += 1 - matrix.sum(1)
    return matrix


def gap(matrix: np.ndarray) -> float:
    return 1 - np.sort(np.linalg.eigvals(matrix).real)[-2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tries", "law", "block", "rule", "known"),
    [
        (1, "horizon", 1, "metropolis", 0.093),
        (2, "horizon", 1, "metropolis", 0.146),
        (1, "horizon", 1, "resample", 0.066),
        (2, "horizon", 1, "resample", 0.109),
        (2, "grid", 2, "metropolis", 0.351),
        (2, "grid", 2, "resample", 0.224),
        (2, "scored", 1, "metropolis", None),
    ],
)
def test_several_tries_keep_the_target(tries, law, block, rule, known):
    matrix = several(tries, CutConfig(law=law), rule, block)
    assert balanced(matrix, PI)
    if known is not None:
        assert gap(matrix) == pytest.approx(known, abs=6e-4)


@pytest.mark.parametrize("rule", ["metropolis", "resample"])
def test_several_tempered_tries_keep_it(rule):
    assert balanced(several(2, CutConfig(law="length"), rule, proposal=TEMPERED), PI)


def test_one_try_is_metropolis_hastings_or_barker():
    log_w = jnp.array([[-1.0], [0.5], [-jnp.inf]])
    np.testing.assert_allclose(jnp.exp(log_taken(log_w))[:, 0], [np.exp(-1), 1, 0], rtol=1e-12)
    np.testing.assert_allclose(jnp.exp(log_taken(log_w, "resample"))[:, 0], jax.nn.sigmoid(log_w[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(
        several(1, CutConfig(law="grid"), "metropolis"), transitions(TILT, CutConfig(law="grid")), atol=1e-12
    )
    nothing = jnp.exp(log_taken(jnp.full((1, 3), -jnp.inf)))
    np.testing.assert_allclose(nothing, [[0, 0, 0, 1]])
    with pytest.raises(UserError, match=r"tries\.rule='best' is not one of metropolis, resample"):
        log_taken(log_w, "best")


@pytest.mark.parametrize("law", ["horizon", "length", "grid"])
def test_a_cheap_reward_first_changes_nothing_of_the_law(law):
    cheap, kappa = (
        np.array([0.7 * r + 0.3 * np.cos(3 * n) for n, r in enumerate(REWARDS)]),
        log_kappa(CutConfig(law=law)),
    )
    matrix, asked = np.zeros((31, 31)), 0.0
    for c in range(HORIZON):
        old, new = np.nonzero(toy.SAME[c] & (LENGTHS[:, None] > c) & (c < LENGTHS))
        weighed = lambda of, c=c: Weighed(jnp.asarray(REWARDS[of]), jnp.asarray(kappa[of, c]))
        first = tuple(jnp.asarray(cheap[of]) for of in (old, new))
        one, two = log_accept_delayed(TILT, weighed(old), weighed(new), jnp.full(len(old), c), first)
        np.testing.assert_allclose(
            one + two, log_accept(TILT, weighed(old), weighed(new), jnp.full(len(old), c)), atol=1e-12
        )
        drawn = np.exp(kappa[old, c] + BASE.each_RxH[new, c:].sum(-1))
        passed = np.exp(np.minimum(np.asarray(one), 0))
        np.add.at(matrix, (old, new), drawn * passed * np.exp(np.minimum(np.asarray(two), 0)))
        asked += float(np.sum(PI[old] * drawn * passed))
    matrix[np.diag_indices(31)] += 1 - matrix.sum(1)
    assert balanced(matrix, PI) and asked < 0.9


def test_exchanges_keep_the_product_of_two_laws():
    temps = (0.4, INV_TEMP)
    laws = [toy.normalised(P * np.exp(t * REWARDS)) for t in temps]
    one, two = np.divmod(np.arange(31**2), 31)
    joint = laws[0][one] * laws[1][two]
    log_a = np.asarray(log_swap(tuple(map(jnp.asarray, temps)), (jnp.asarray(REWARDS[one]), jnp.asarray(REWARDS[two]))))
    there = joint * np.exp(np.minimum(log_a, 0))
    back = np.empty_like(there)
    back[two * 31 + one] = there
    np.testing.assert_allclose(there, back, atol=1e-15)
    assert TargetConfig(inv_temp=temps[0]).inv_temp == temps[0]
