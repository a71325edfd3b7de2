"""Chains on the toy by their transition matrices: every exact rule keeps its target in detailed balance, and every rule that is
known to be biased samples what it is known to sample instead."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.markov.acceptance import TargetConfig, Weighed, log_accept
from ebm_jax.decoding.markov.cuts import CutConfig, log_cuts
from tests.decoding.markov import toy
from tests.decoding.markov.toy import BASE, END, FACTS, HORIZON, INV_TEMP, LENGTHS, PI, RESPONSES, REWARDS, P

TEMPERED, NUCLEUS = toy.law(temperature=0.6), toy.law(top_p=0.8)
SCORES = np.exp(np.sin(np.arange(HORIZON)))
TILT = TargetConfig(inv_temp=INV_TEMP)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def prefix_scores() -> np.ndarray:
    """A positive function of what stands before each place."""
    return np.array([[1.1 + np.sin(toy.code(y[:c])) for c in range(HORIZON)] for y in RESPONSES])


def log_kappa(cuts: CutConfig, block: int = 1) -> np.ndarray:
    scores = jnp.asarray(prefix_scores()) if cuts.law == "scored" else None
    return np.asarray(log_cuts(cuts, jnp.asarray(LENGTHS), HORIZON, block, scores))


def transitions(
    target: TargetConfig, cuts, proposal=BASE, block: int = 1, correct: bool = True, rewards=REWARDS
) -> np.ndarray:
    """The chain's matrix, acceptances asked of ``log_accept``; without ``correct``, the law of the cut is left out.

    ``cuts`` may be that law's logarithms themselves, ``[R, H]``.
    """
    kappa = log_kappa(cuts, block) if isinstance(cuts, CutConfig) else cuts
    number = len(RESPONSES)
    matrix = np.zeros((number, number))
    for c in range(HORIZON):
        old, new = np.nonzero(toy.SAME[c] & (LENGTHS[:, None] > c) & (c < LENGTHS))
        drawn = np.exp(kappa[old, c] + proposal.each_RxH[new, c:].sum(-1))

        def weighed(of, c=c):
            log_cut = jnp.asarray(kappa[of, c] if correct else np.zeros(len(of)))
            return Weighed(
                jnp.asarray(rewards[of]), log_cut, jnp.asarray(BASE.each_RxH[of]), jnp.asarray(proposal.each_RxH[of])
            )

        log_a = np.asarray(log_accept(target, weighed(old), weighed(new), jnp.full(len(old), c)))
        taken = drawn * np.exp(np.minimum(np.nan_to_num(log_a, nan=-np.inf), 0))
        np.add.at(matrix, (old, new), np.where(drawn > 0, taken, 0))
    matrix[np.diag_indices(number)] += 1 - matrix.sum(1)
    return matrix


def stationary(matrix: np.ndarray) -> np.ndarray:
    return toy.normalised(np.linalg.matrix_power(matrix, 4096)[0])


def balanced(matrix: np.ndarray, law: np.ndarray) -> bool:
    flow = law[:, None] * matrix
    return bool(
        np.abs(flow - flow.T).max() < 1e-12
        and np.abs(law @ matrix - law).max() < 1e-12
        and matrix.min() > -1e-12
        and np.abs(matrix.sum(1) - 1).max() < 1e-12
    )


def test_the_toy_is_the_one_whose_figures_are_known():
    assert len(RESPONSES) == 31 and sum(y[-1] == END for y in RESPONSES) == 15 and P.sum() == pytest.approx(1)
    first = np.array([y[0] for y in RESPONSES])
    share = lambda law: [law[first == v].sum() for v in range(3)]
    log_z = np.log(P @ np.exp(INV_TEMP * REWARDS))
    found = {
        "p(first)": share(P), "pi(first)": share(PI), "E_p R": P @ REWARDS, "E_pi R": PI @ REWARDS, "E_p |y|": P @ LENGTHS,
        "E_pi |y|": PI @ LENGTHS, "log Z": log_z, "KL": PI @ np.log(PI / P), "TV(p, pi)": toy.total_variation(P, PI),
        "idle": 1 - PI @ LENGTHS / HORIZON,
    }  # fmt: skip
    assert found.keys() == FACTS.keys()
    for name, value in FACTS.items():
        np.testing.assert_allclose(found[name], value, atol=5.1e-6 if isinstance(value, tuple) else 6e-6, err_msg=name)
    assert RESPONSES[np.argmax(PI)] == (1, END) and PI.max() == pytest.approx(0.627304, abs=1e-6)


@pytest.mark.parametrize(
    ("law", "block"), [("horizon", 1), ("horizon", 2), ("length", 1), ("grid", 2), ("grid", 3), ("scored", 1)]
)
def test_every_law_of_the_cut_keeps_the_target(law, block):
    assert balanced(transitions(TILT, CutConfig(law=law), block=block), PI)


@pytest.mark.parametrize(("law", "block"), [("horizon", 1), ("length", 1), ("grid", 2), ("scored", 1)])
def test_tempered_proposals_keep_it_by_their_log_probabilities(law, block):
    assert balanced(transitions(TILT, CutConfig(law=law), TEMPERED, block), PI)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("proposal", [BASE, TEMPERED], ids=["base", "tempered"])
def test_powers_and_rewards_go_together(power, proposal):
    for inv_temp in (0.0, INV_TEMP):
        target = TargetConfig(inv_temp=inv_temp, power=power)
        law = toy.normalised(P**power * np.exp(inv_temp * REWARDS))
        assert balanced(transitions(target, CutConfig(law="length"), proposal), law)


@pytest.mark.parametrize("proposal", [TEMPERED, NUCLEUS], ids=["tempered", "nucleus"])
def test_a_prior_that_is_the_proposal_is_tilted_as_it_is(proposal):
    law = toy.normalised(np.exp(proposal.whole_R + INV_TEMP * REWARDS))
    target = TargetConfig(inv_temp=INV_TEMP, prior="proposal")
    for cuts in ("horizon", "length", "grid"):
        assert balanced(transitions(target, CutConfig(law=cuts), proposal), law)


def test_filters_shrink_the_support_to_their_own():
    inside = np.isfinite(NUCLEUS.whole_R)
    law = toy.normalised(np.where(inside, PI, 0))
    assert inside.sum() == 8 and PI[inside].sum() == pytest.approx(0.85, abs=5e-3)
    matrix = transitions(TILT, CutConfig(law="horizon"), NUCLEUS)[np.ix_(inside, inside)]
    assert balanced(matrix, law[inside])


@pytest.mark.parametrize(
    ("law", "block", "factor", "distance"), [("length", 1, LENGTHS, 0.142), ("grid", 2, -(-LENGTHS // 2), 0.161)]
)
def test_without_the_cut_s_ratio_responses_grow(law, block, factor, distance):
    matrix = transitions(TILT, CutConfig(law=law), block=block, correct=False)
    biased = toy.normalised(PI * factor)
    assert balanced(matrix, biased) and not balanced(matrix, PI)
    assert toy.total_variation(stationary(matrix), PI) == pytest.approx(distance, abs=1e-3)
    assert biased @ LENGTHS > PI @ LENGTHS


def test_a_grid_that_stretches_with_the_response_needs_its_own_ratio():
    """Both halves of every response, whatever its length: as many cuts of each, and yet not the same ones."""
    number, place = LENGTHS[:, None], np.arange(HORIZON)
    begins = (place == 0) | ((place == number // 2) & (place < number))
    with np.errstate(divide="ignore"):
        kappa = np.log(begins / begins.sum(1, keepdims=True))
    assert balanced(transitions(TILT, kappa), PI)
    naive = stationary(transitions(TILT, kappa, correct=False))
    assert toy.total_variation(naive, PI) == pytest.approx(0.098, abs=1e-3)


def test_rewards_alone_do_not_correct_a_tempered_proposal():
    matrix = transitions(TargetConfig(inv_temp=INV_TEMP, prior="proposal"), CutConfig(law="horizon"), TEMPERED)
    assert toy.total_variation(stationary(matrix), PI) == pytest.approx(0.176, abs=1e-3)


@pytest.mark.parametrize("change", [{"inv_temp": 0.0}, {"rewards": np.zeros(31)}])
def test_without_rewards_the_model_is_sampled(change):
    target = TargetConfig(inv_temp=change.get("inv_temp", INV_TEMP))
    rewards = change.get("rewards", REWARDS)
    for law, all_accepted in (("horizon", True), ("length", False), ("grid", False)):
        matrix = transitions(target, CutConfig(law=law), block=2 if law == "grid" else 1, rewards=rewards)
        assert balanced(matrix, P)
        free = transitions(target, CutConfig(law=law), block=2 if law == "grid" else 1, rewards=rewards, correct=False)
        assert np.allclose(matrix, free) == all_accepted


@pytest.mark.parametrize("law", ["horizon", "length", "grid", "scored"])
def test_only_differences_and_products_of_rewards_count(law):
    cuts = CutConfig(law=law)
    matrix = transitions(TILT, cuts)
    np.testing.assert_allclose(transitions(TILT, cuts, rewards=REWARDS + 7), matrix, atol=1e-12)
    np.testing.assert_allclose(
        transitions(TargetConfig(inv_temp=INV_TEMP / 5), cuts, rewards=5 * REWARDS), matrix, atol=1e-12
    )


@pytest.mark.parametrize(("law", "block", "proposal", "gap"), [
    ("horizon", 1, BASE, 0.093), ("length", 1, BASE, 0.156), ("grid", 2, BASE, 0.238), ("horizon", 1, TEMPERED, 0.027)
])  # fmt: skip
def test_spectral_gaps(law, block, proposal, gap):
    values = np.sort(np.linalg.eigvals(transitions(TILT, CutConfig(law=law), proposal, block)).real)
    assert 1 - values[-2] == pytest.approx(gap, abs=6e-4)


def test_the_power_s_ratio_is_that_of_normalisers():
    """With q tempered by 1 / alpha: ``log A = sum log Z_t (y') - sum log Z_t (y)``, Z the sum of powers of probabilities."""
    alpha = 2.0
    proposal = toy.law(temperature=1 / alpha)
    log_z = np.zeros((len(RESPONSES), HORIZON))
    for number, tokens in enumerate(RESPONSES):
        for place in range(len(tokens)):
            p = np.exp(toy.logits(tokens[:place]))
            log_z[number, place] = np.log(np.sum((p / p.sum()) ** alpha))
    old, new = np.divmod(np.arange(31**2), 31)
    for c in range(HORIZON):
        weighed = lambda of: Weighed(
            *map(jnp.asarray, (REWARDS[of], np.zeros(len(of)), BASE.each_RxH[of], proposal.each_RxH[of]))
        )
        found = log_accept(TargetConfig(inv_temp=0.0, power=alpha), weighed(old), weighed(new), jnp.full(len(old), c))
        np.testing.assert_allclose(found, (log_z[new, c:] - log_z[old, c:]).sum(-1), atol=1e-10)
