"""Proposals against the cache are proposals of full passes, token for token, through cuts, acceptances and rejections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.markov.speculative import DraftedSuffixes
from ebm_jax.decoding.markov.suffixes import Memory, Suffixes, merged, row_keys
from ebm_jax.decoding.sampling import SamplingConfig, choose, filtered
from ebm_jax.models.lm import TransformerLM
from ebm_jax.nn.stack import separate_layers
from tests import tiny

pytestmark = pytest.mark.usefixtures("x64")
HORIZON, ENDS, EACH = 6, (3, 7), 2
PROMPTS = ([5, 2, 3, 9], [4])
KEY = jax.random.key(8)
PLAIN, FILTERED = SamplingConfig(temperature=1.0), SamplingConfig(temperature=0.7, top_k=6)
WINDOWED = {"window": 3, "full_layers": (1,)}


@functools.cache
def language_model(windowed: bool = False) -> tuple[TransformerLM, dict]:
    algorithm = tiny.lm(model=WINDOWED if windowed else None)
    params = tiny.generic(tiny.shapes(algorithm).params)
    return algorithm.model.clone(separate_layers=True), separate_layers(params)


def prompts() -> tuple[jax.Array, jax.Array]:
    lengths = np.array([len(prompt) for prompt in PROMPTS], np.int32)
    tokens = np.zeros((len(PROMPTS), lengths.max()), np.int32)
    for row, prompt in zip(tokens, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    return jnp.asarray(tokens), jnp.asarray(lengths)


@functools.cache
def suffixes(sampling=PLAIN, windowed=False) -> tuple[Suffixes, dict, dict]:
    network, params = language_model(windowed)
    made = Suffixes(network, sampling, ENDS, HORIZON, log_probs=True)
    draw, keep = tiny.jit(made.draw), tiny.jit(made.keep)
    return made, params, {"draw": draw, "keep": keep}


def keys(step: int) -> jax.Array:
    rows = np.arange(len(PROMPTS) * EACH)
    return row_keys(KEY, jnp.asarray(rows // EACH), jnp.asarray(rows % EACH), step)


@functools.cache
def full_pass(windowed: bool):
    network, params = language_model(windowed)

    def logits(tokens_T):
        at, same = jnp.arange(len(tokens_T))[None], jnp.ones((1, len(tokens_T)), jnp.int32)
        return network.apply({"params": params}, tokens_T[None], at, same)[0]

    return tiny.jit(logits)


def naive(
    row: int, current: list[int], cut: int, step: int, sampling, windowed
) -> tuple[list[int], list[float], list[float]]:
    """The same proposal without a cache: a whole pass a token, over rows that are always as long."""
    prompt, made = PROMPTS[row // EACH], list(current[:cut])
    log_p, log_q = [], []
    while len(made) < HORIZON and not (made and len(made) > cut and made[-1] in ENDS):
        text = prompt + made
        filled = jnp.asarray(text + [0] * (max(map(len, PROMPTS)) + HORIZON - len(text)))
        logits = full_pass(windowed)(filled)[len(text) - 1]
        drawable = filtered(logits, sampling)
        uniform = jax.random.uniform(jax.random.fold_in(keys(step)[row], len(made)))
        token = int(choose(drawable[None], uniform[None])[0])
        log_p.append(float(jax.nn.log_softmax(logits)[token]))
        log_q.append(float(jax.nn.log_softmax(drawable)[token]))
        made.append(token)
    return made, log_p, log_q


def told(responses, row: int) -> list[int]:
    return responses.tokens_XxH[row, : int(responses.length_X[row])].tolist()


@pytest.mark.parametrize(("sampling", "windowed"), [(PLAIN, False), (FILTERED, False), (PLAIN, True)])
def test_a_chain_s_proposals_are_those_of_full_passes(sampling, windowed):
    made, params, run = suffixes(sampling, windowed)
    current, memory = made.read(params, *prompts(), EACH)
    rows, rng = len(PROMPTS) * EACH, np.random.default_rng(0)
    expected, log_p, log_q = ([[] for _ in range(rows)] for _ in range(3))
    seen = set()
    for step in range(7):
        lengths = np.asarray(current.length_X)
        cut = np.zeros(rows, np.int32) if step == 0 else rng.integers(0, np.maximum(lengths, 1)).astype(np.int32)
        if step == 1:
            cut = lengths - 1  # the last token alone is drawn anew
        new, memory = run["draw"](params, memory, current, jnp.asarray(cut), keys(step), HORIZON)
        accepted = np.ones(rows, bool) if step == 0 else rng.integers(0, 2, rows).astype(bool)
        for row in range(rows):
            tokens, p, q = naive(row, expected[row], int(cut[row]), step, sampling, windowed)
            assert told(new, row) == tokens
            np.testing.assert_allclose(new.log_prior_XxH[row, : len(tokens)], log_p[row][: cut[row]] + p, rtol=1e-9)
            np.testing.assert_allclose(new.log_proposal_XxH[row, : len(tokens)], log_q[row][: cut[row]] + q, rtol=1e-9)
            assert bool(new.ended_X[row]) == (tokens[-1] in ENDS)
            assert not new.tokens_XxH[row, len(tokens) :].any() and not new.log_prior_XxH[row, len(tokens) :].any()
            if accepted[row]:
                log_p[row], log_q[row] = log_p[row][: cut[row]] + p, log_q[row][: cut[row]] + q
                expected[row] = tokens
            seen.add((bool(accepted[row]), int(cut[row])))
        current = merged(current, new, jnp.asarray(accepted))
        memory = run["keep"](memory, jnp.asarray(cut), jnp.asarray(accepted))
        assert [told(current, row) for row in range(rows)] == expected
    assert {(True, 0), (False, 0)} <= seen and len(seen) > 6


def test_what_a_rejection_leaves_behind_is_never_read():
    made, params, run = suffixes()
    empty, memory = made.read(params, *prompts(), EACH)
    zero = jnp.zeros(len(PROMPTS) * EACH, jnp.int32)
    first, memory = run["draw"](params, memory, empty, zero, keys(0), HORIZON)
    memory = run["keep"](memory, zero, zero == 0)
    cut = first.length_X // 2
    clean, _ = run["draw"](params, memory, first, cut, keys(1), HORIZON)

    column = jnp.arange(2 * HORIZON)
    stale = (column >= HORIZON) | (column > cut[:, None])
    poison = lambda x: jnp.where(stale[:, None, :, None], 1e3, x)
    poisoned = Memory(memory.prefix, memory.length_B, memory.last_X, jax.tree.map(poison, memory.own))
    again, _ = run["draw"](params, poisoned, first, cut, keys(1), HORIZON)
    assert np.array_equal(again.tokens_XxH, clean.tokens_XxH)
    np.testing.assert_array_equal(again.log_prior_XxH, clean.log_prior_XxH)


def test_rows_are_drawn_by_their_own_numbers_alone():
    """A prompt by itself, one chain of it, has what it has among others."""
    made, params, run = suffixes()
    empty, memory = made.read(params, *prompts(), EACH)
    zero = jnp.zeros(len(PROMPTS) * EACH, jnp.int32)
    together, _ = run["draw"](params, memory, empty, zero, keys(0), HORIZON)
    alone, memory = made.read(
        params, jnp.asarray([PROMPTS[1]], jnp.int32), jnp.asarray([len(PROMPTS[1])], jnp.int32), 1
    )
    one, _ = made.draw(params, memory, alone, zero[:1], keys(0)[3:], HORIZON)
    assert told(one, 0) == told(together, 3)


@pytest.mark.parametrize("windowed", [False, True])
def test_with_a_draft_the_log_probabilities_are_those_of_full_passes(windowed):
    """Drafts that are kept and drafts that are not, through cuts, acceptances and rejections."""
    network, params = language_model(windowed)
    other = tiny.generic(tiny.shapes(tiny.lm(model=WINDOWED if windowed else None)).params, seed=1)
    made = DraftedSuffixes(network, network, PLAIN, ENDS, HORIZON, log_probs=True, ahead=3)
    both = {"model": params, "draft": separate_layers(other)}
    current, memory = made.read(both, *prompts(), EACH)
    rows, rng = len(PROMPTS) * EACH, np.random.default_rng(1)
    draw, keep = tiny.jit(made.draw), tiny.jit(made.keep)
    for step in range(5):
        lengths = np.asarray(current.length_X)
        cut = np.zeros(rows, np.int32) if step == 0 else rng.integers(0, np.maximum(lengths, 1)).astype(np.int32)
        new, memory = draw(both, memory, current, jnp.asarray(cut), keys(step), HORIZON)
        for row in range(rows):
            tokens, prompt = told(new, row), PROMPTS[row // EACH]
            assert tokens[: cut[row]] == told(current, row)[: cut[row]]
            assert len(tokens) == HORIZON or tokens[-1] in ENDS
            filled = jnp.asarray(prompt + tokens + [0] * (max(map(len, PROMPTS)) + HORIZON - len(prompt + tokens)))
            log_p = jax.nn.log_softmax(full_pass(windowed)(filled))
            expected = [float(log_p[len(prompt) + n - 1, token]) for n, token in enumerate(tokens)]
            np.testing.assert_allclose(new.log_prior_XxH[row, : len(tokens)], expected, rtol=1e-9)
        accepted = jnp.asarray(rng.integers(0, 2, rows).astype(bool) | (step == 0))
        current, memory = merged(current, new, accepted), keep(memory, jnp.asarray(cut), accepted)
