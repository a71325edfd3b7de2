"""Cached generation is full recomputation, token for token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.decoder import generate
from ebm_jax.decoding.sampling import SamplingConfig, draw
from ebm_jax.energy.thinking import ThinkingConfig
from tests import tiny
from tests.tiny import CONDITIONINGS

pytestmark = pytest.mark.usefixtures("x64")
PROMPTS, COUNT, ROOM = ([3, 1, 4], [2, 7, 1, 8, 5]), 4, 9
KEY = jax.random.key(4)
DRAWN = SamplingConfig(temperature=0.7, top_k=6, top_p=0.9)
GREEDY = SamplingConfig(temperature=0)
THOUGHT = ThinkingConfig(steps=3, candidates=3, at_once=2, accept_lower=True)


@functools.cache
def ebt(conditioning, landscapes=2):
    return tiny.ebt({"landscapes": landscapes, "noise": 0.3}, conditioning=conditioning)


def rows():
    lengths = np.array([len(p) for p in PROMPTS])
    tokens = np.zeros((len(PROMPTS), lengths.max()), np.int32)
    for row, prompt in zip(tokens, PROMPTS, strict=True):
        row[: len(prompt)] = prompt
    return jnp.asarray(tokens), jnp.asarray(lengths, jnp.int32), jnp.asarray([5, 2], jnp.uint32)


@functools.cache
def cached(algorithm, sampling, thinking=None):
    decoder = algorithm.decoder() if thinking is None else algorithm.decoder(thinking)
    params = decoder.parameters(parameters(algorithm))

    def run(params, count):
        state = decoder.start(params, *rows(), COUNT)
        state, written = generate(decoder, params, state, KEY, sampling, count, COUNT, tell=True)
        return state, written.tokens_XxN, (written.energies_XxNxI, written.passes_XxN)

    return tiny.jit(run)(params, COUNT)


def parameters(algorithm):
    return tiny.generic(tiny.shapes(algorithm).params) if isinstance(algorithm, tiny.LM) else tiny.parameters(algorithm)


def batch_of(tokens, index):
    """A row of the whole context, so that one program serves all lengths; no position sees what is behind it."""
    row = lambda x: jnp.asarray(x, jnp.int32)[None]
    filled = [*tokens, *range(1, ROOM + 1 - len(tokens))]
    rows = {
        "inputs": row(filled),
        "targets": row(filled),
        "segments": row(np.ones(ROOM)),
        "positions": row(np.arange(ROOM)),
    }
    return rows | {"weights": jnp.ones((1, ROOM)), "index": jnp.asarray([index], jnp.uint32)}


@functools.cache
def refine_all(algorithm, thinking):
    return tiny.jit(lambda params, batch: algorithm.think(params, batch, KEY, thinking))


@functools.cache
def logits_of(algorithm):
    return tiny.jit(algorithm.logits)


def recomputed(algorithm, sampling, thinking=None):
    """Every token from the whole row, all of whose positions are refined; with the energies and passes of its own."""
    tokens, told = [list(p) for p in PROMPTS], []
    for _ in range(COUNT):
        for row, index in zip(tokens, (5, 2), strict=True):
            batch, last = batch_of(row, index), len(row) - 1
            if isinstance(algorithm, tiny.LM):
                logits = logits_of(algorithm)(parameters(algorithm), batch)[:, last]
            else:
                thought = refine_all(algorithm, thinking)(parameters(algorithm), batch)
                logits = thought.state[:, last]
                energies = [*thought.energies_IxBxT[:, 0, last], thought.final_energy_BxT[0, last]]
                told.append((np.asarray(energies), int(thought.passes_BxT[0, last])))
            token = draw(logits, sampling, KEY, batch["index"], jnp.asarray([len(row)]))
            row.append(int(token[0]))
    return [row[len(p) :] for row, p in zip(tokens, PROMPTS, strict=True)], told


@pytest.mark.slow
@pytest.mark.parametrize(
    "conditioning", [pytest.param(c, marks=[pytest.mark.slow] * (c not in ("default", "adaln"))) for c in CONDITIONINGS]
)
def test_an_ebt_refines_one_position_as_it_would_all(conditioning):
    algorithm = ebt(conditioning)
    _, tokens, (energies, passes) = cached(algorithm, DRAWN)
    expected, told = recomputed(algorithm, DRAWN)
    assert tokens.tolist() == expected
    for number, (energy, count) in enumerate(told):
        step, row = divmod(number, len(PROMPTS))
        np.testing.assert_allclose(energies[row, step], energy, rtol=0, atol=1e-12)
        assert passes[row, step] == count == 2


@pytest.mark.slow
def test_thinking_at_every_token_is_thinking_at_every_position():
    """More steps, candidates side by side, steps taken back."""
    algorithm = ebt("time_embed")
    _, tokens, (energies, passes) = cached(algorithm, GREEDY, THOUGHT)
    expected, told = recomputed(algorithm, GREEDY, THOUGHT)
    assert tokens.tolist() == expected
    np.testing.assert_allclose(energies[1, 3], told[-1][0], rtol=0, atol=1e-12)
    assert (passes == THOUGHT.forward_passes(algorithm.config.descent)).all()


@pytest.mark.slow
def test_a_landscape_that_is_not_visited_is_not_cached():
    algorithm = ebt("time_embed", landscapes=3)
    thinking = ThinkingConfig(steps=2)
    state, tokens, _ = cached(algorithm, GREEDY, thinking)
    assert len(state.memory) == 2
    assert tokens.tolist() == recomputed(algorithm, GREEDY, thinking)[0]


def test_one_candidate_is_plain_inference():
    algorithm = ebt("adaln")
    one = cached(algorithm, GREEDY, ThinkingConfig(candidates=1, at_once=4))
    plain = cached(algorithm, GREEDY)
    jax.tree.map(np.testing.assert_array_equal, one[1:], plain[1:])


def test_a_language_model_reads_its_cache():
    algorithm = tiny.lm()
    assert cached(algorithm, DRAWN)[1].tolist() == recomputed(algorithm, DRAWN)[0]
    assert cached(algorithm, DRAWN)[2] == (None, None)


def test_pieces_of_any_length_give_the_same_text():
    algorithm = ebt("default")
    decoder = algorithm.decoder()
    params = decoder.parameters(parameters(algorithm))
    state, parts = decoder.start(params, *rows(), COUNT), []
    piece = tiny.jit(lambda params, state, count: generate(decoder, params, state, KEY, DRAWN, count, 2))
    for count in (1, 2, 1):
        state, written = piece(params, state, count)
        parts.append(np.asarray(written.tokens_XxN)[:, :count])
    np.testing.assert_array_equal(np.concatenate(parts, 1), cached(algorithm, DRAWN)[1])
