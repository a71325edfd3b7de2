"""Block-parallel rollouts against ordinary decoding of every prefix by itself, however rows are cut and shared out."""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of
from ebm_jax.decoding.rollout import rollout
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.parallel import rules
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.multihost import to_global
from ebm_jax.precision import Precision
from tests import tiny
from tests.environment import xla_flags
from tests.models.test_lm_options import OPTIONS, logits_of, model

KEY = jax.random.key(3)
PLACES, STEPS, SAMPLES = 11, 3, 2
ANCHORS = AnchorConfig(prefix=2, stride=3, steps=STEPS)
BLOCKS = ANCHORS.blocks(PLACES)
WARM, GREEDY = SamplingConfig(temperature=1.3), SamplingConfig(temperature=0)
SEGMENTS = ([1] * PLACES, [1] * 4 + [2] * 7, [1] * 3 + [2] * 5 + [0] * 3)
MANY = [SEGMENTS[k % 3] for k in range(8)]
"""A row for each device."""


def packed(segments=SEGMENTS, seed=0, vocab=tiny.VOCAB):
    segments = np.asarray(segments)
    starts = np.where(np.diff(segments, axis=1, prepend=-1) != 0, np.arange(segments.shape[1]), 0)
    return {
        "inputs": jnp.asarray(np.random.default_rng(seed).integers(1, vocab, segments.shape), jnp.int32),
        "segments": jnp.asarray(segments, jnp.int32),
        "positions": jnp.asarray(np.arange(segments.shape[1]) - np.maximum.accumulate(starts, axis=1), jnp.int32),
        "weights": jnp.asarray(segments > 0, jnp.float32),
        "index": jnp.arange(len(segments), dtype=jnp.uint32),
    }


def sampled(network, params, batch, sampling, samples=SAMPLES, config=ANCHORS, key=KEY):
    branches = branches_of(batch, config, key)
    return rollout(network, params, prompt_of(batch, config), branches, sampling, samples, key, batch["index"])


def prefixes(batch, config=ANCHORS):
    """What a continuation of every block stands behind, ``[B * S]`` lists: its document's tokens before the anchor."""
    found = []
    for tokens, segments in zip(*(np.asarray(batch[name]) for name in ("inputs", "segments")), strict=True):
        for k in range(config.blocks(tokens.shape[0])):
            anchor = config.prefix + k * config.stride
            inside = np.arange(len(tokens)) < anchor
            inside &= (segments == segments[anchor - 1]) | (config.documents == "joined")
            found.append(tokens[inside].tolist())
    return found


def ordinary(shape):
    """Positions and segments of rows of one document."""
    return np.broadcast_to(np.arange(shape[1]), shape), np.ones(shape, np.int32)


def behind(name, texts):
    """Log-probabilities of what follows each text by ordinary forward passes, ``[N, V]``."""
    rows = np.array([text + [0] * (PLACES + STEPS - len(text)) for text in texts], np.int32)
    logits = np.asarray(logits_of(name)(rows, *ordinary(rows.shape)))[
        np.arange(len(texts)), [len(text) - 1 for text in texts]
    ]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def continuations(samples=SAMPLES):
    shape = (len(SEGMENTS), samples, BLOCKS, STEPS)
    return jnp.asarray(np.random.default_rng(1).integers(1, tiny.VOCAB, shape), jnp.int32)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OPTIONS)
def test_blocks_together_are_every_prefix_decoded_alone(name):
    """Greedy tokens and their log-probabilities one step at a time, and those of any tokens in the one pass that trains."""
    algorithm, params = model(name)
    batch, given = packed(), continuations()
    branches = branches_of(batch, ANCHORS, KEY)

    @tiny.jit
    def run(params):
        rows = (*prompt_of(batch, ANCHORS), given[..., :-1], branches.until(STEPS - 1))
        hidden, later = algorithm.model.apply({"params": params}, *rows, method="branched")
        first = jnp.take_along_axis(hidden, branches.anchor_BxS[..., None] - 1, 1)
        both = jnp.concatenate([first, later.reshape(len(hidden), -1, hidden.shape[-1])], axis=1)
        log_probs = jax.nn.log_softmax(algorithm.model.apply({"params": params}, both, method="logits"))
        return sampled(algorithm.model, params, batch, GREEDY, 1), log_probs

    greedy, log_probs = run(params)
    texts = prefixes(batch)
    made = np.zeros((len(texts), 0), int)
    for step in range(STEPS):
        expected = behind(name, [text + own for text, own in zip(texts, made.tolist(), strict=True)])
        made = np.concatenate([made, expected.argmax(-1)[:, None]], axis=1)
        found = np.asarray(greedy.log_probs[..., step]).ravel()
        np.testing.assert_allclose(found, expected.max(-1), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(np.asarray(greedy.tokens).reshape(made.shape), made)

    first = np.asarray(log_probs[:, None, :BLOCKS, None])
    first = np.broadcast_to(first, (len(first), SAMPLES, BLOCKS, 1, first.shape[-1]))
    later = np.asarray(log_probs[:, BLOCKS:]).reshape(*first.shape[:3], STEPS - 1, -1)
    ours = np.concatenate([first, later], axis=3)
    for sample in range(SAMPLES):
        own = np.asarray(given[:, sample]).reshape(len(texts), STEPS).tolist()
        for step in range(STEPS):
            expected = behind(name, [text + more[:step] for text, more in zip(texts, own, strict=True)])
            np.testing.assert_allclose(ours[:, sample, :, step].reshape(expected.shape), expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_samples_in_one_row_are_rows_of_one_sample():
    """Hidden states and gradients of the weights."""
    algorithm, params = model("grouped queries, tied, llama3 frequencies")
    batch, made = packed(), continuations()
    weights = jnp.asarray(np.random.default_rng(2).standard_normal((*made.shape, tiny.WIDTH)))

    def run(batch, made, weights):
        prompt, branches = prompt_of(batch, ANCHORS), branches_of(batch, ANCHORS, KEY)

        def loss(params):
            prompts, own = algorithm.model.apply({"params": params}, *prompt, made, branches, method="branched")
            return jnp.sum(weights * own) + jnp.sum(prompts**2) * made.shape[1], own

        return tiny.jit(jax.value_and_grad(loss, has_aux=True))(params)

    apart = lambda x: x.reshape(-1, 1, *x.shape[2:])
    (value, together), gradient = run(batch, made, weights)
    each = {name: jnp.repeat(x, SAMPLES, axis=0) for name, x in batch.items()}
    (total, alone), gradients = run(each, apart(made), apart(weights))
    np.testing.assert_allclose(apart(together), alone, rtol=0, atol=1e-13)
    np.testing.assert_allclose(value, total, rtol=1e-12)
    tiny.assert_trees_close(gradient, gradients, 1e-12)


@functools.cache
def small():
    """A model in single precision, as rollouts run."""
    algorithm = tiny.lm(model={"heads": 2, "kv_heads": 1}, precision=Precision())
    return algorithm, tiny.generic(tiny.shapes(algorithm).params)


@functools.cache
def roll(sampling=WARM, samples=SAMPLES, config=ANCHORS):
    algorithm, _ = small()
    return tiny.jit(lambda params, batch, key: sampled(algorithm.model, params, batch, sampling, samples, config, key))


def test_documents_do_not_reach_each_other():
    batch = packed(MANY)
    changed = {**batch, "inputs": batch["inputs"].at[1, :4].set(tiny.VOCAB - batch["inputs"][1, :4])}
    ours, theirs = (roll()(small()[1], rows, KEY) for rows in (batch, changed))
    second = [k for k in range(BLOCKS) if ANCHORS.prefix + k * ANCHORS.stride > 4]
    assert second
    for before, after in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(before[1][:, second], after[1][:, second])
        assert (np.asarray(before[1]) != after[1]).any()


def test_rows_are_continued_by_their_number_wherever_they_stand():
    batch, order = packed(MANY), np.array([4, 0, 7, 5, 3, 1, 6, 2])
    whole = roll()(small()[1], batch, KEY)
    mixed = roll()(small()[1], {name: x[order] for name, x in batch.items()}, KEY)
    np.testing.assert_array_equal(mixed.tokens, whole.tokens[order])
    for part in (slice(0, 4), slice(4, 8)):
        few = roll()(small()[1], {name: x[part] for name, x in batch.items()}, KEY)
        np.testing.assert_array_equal(few.tokens, whole.tokens[part])
    again = roll()(small()[1], batch, KEY)
    np.testing.assert_array_equal(again.tokens, whole.tokens)
    for other in (
        roll()(small()[1], batch, jax.random.key(4)),
        roll()(small()[1], batch | {"index": batch["index"] + 8}, KEY),
    ):
        assert (np.asarray(other.tokens) != whole.tokens).any()


def test_more_samples_leave_the_first_ones_as_they_are():
    batch = packed(MANY)
    few, many = roll()(small()[1], batch, KEY), roll(samples=5)(small()[1], batch, KEY)
    np.testing.assert_array_equal(many.tokens[:, :SAMPLES], few.tokens)
    assert len({tuple(sample.ravel().tolist()) for sample in np.asarray(many.tokens)[0]}) == 5


@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(MeshConfig(), id="data"),
        pytest.param(MeshConfig(data=2, fsdp=4, rules="fsdp"), id="fsdp", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_draw_the_tokens_of_one(mesh):
    batch = packed(MANY)
    one = roll()(small()[1], batch, KEY)
    algorithm, params = small()
    placed = make_mesh(mesh)
    with rules.use(placed, mesh.rules):
        boxed = tiny.jit(lambda key: algorithm.init(key, tiny.spec(algorithm)))
        shardings = rules.shardings(jax.eval_shape(boxed, KEY).params, placed, rules.get_rules(mesh.rules))
        spread = to_global({name: np.asarray(x) for name, x in batch.items()}, placed)
        run = tiny.jit(lambda params, batch: sampled(algorithm.model, params, batch, WARM))
        many = run(jax.device_put(params, shardings), spread)
    assert len(many.tokens.sharding.device_set) == 8
    np.testing.assert_array_equal(many.tokens, one.tokens)
    np.testing.assert_allclose(many.log_probs, one.log_probs, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_processes_draw_the_tokens_of_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = Path(__file__).parents[2]

    def launch(file, devices, **environment):
        flags = {"XLA_FLAGS": xla_flags(devices), "PYTHONPATH": str(root)}
        command = [sys.executable, "-m", "tests.decoding.run_rollout", str(tmp_path / file)]
        return subprocess.Popen(command, cwd=root, env=os.environ | flags | environment, stderr=subprocess.PIPE)

    common = {"EBM_JAX_COORDINATOR": f"127.0.0.1:{port}", "EBM_JAX_PROCESSES": "2"}
    pair = [launch("two.npz", 2, **common, EBM_JAX_PROCESS_ID=str(i)) for i in (0, 1)]
    for process in (*pair, launch("one.npz", 1)):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
    one, two = (np.load(tmp_path / f"{name}.npz") for name in ("one", "two"))
    np.testing.assert_array_equal(two["tokens"], one["tokens"])
    np.testing.assert_allclose(two["log_probs"], one["log_probs"], rtol=0, atol=1e-5)


def chi_square(tokens, probabilities):
    """Above its mean, in standard deviations."""
    expected = probabilities * len(tokens)
    counts = np.bincount(tokens, minlength=len(expected))
    assert (counts[expected == 0] == 0).all()
    kept = expected > 0
    freedom = kept.sum() - 1
    found = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    return (found - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_samples_follow_the_tempered_policy(top_p):
    """First tokens, and second ones behind each frequent first one, within a filter where there is one."""
    algorithm, params = small()
    many, sampling = 20_000, SamplingConfig(temperature=2.0, top_p=top_p)
    config = AnchorConfig(prefix=4, stride=1, steps=2)
    batch = packed([[1] * 6])
    made = roll(sampling, many, config)(params, batch, KEY)
    tokens, log_probs = np.asarray(made.tokens)[0, :, 0], np.asarray(made.log_probs)[0, :, 0]
    text = np.asarray(batch["inputs"])[0, :4].tolist()

    def policy(text):
        row = jnp.asarray([text + [0] * (5 - len(text))], jnp.int32)
        at = algorithm.model.apply({"params": params}, row, jnp.arange(5)[None], jnp.ones_like(row))
        tempered = np.asarray(jax.nn.softmax(at[0, len(text) - 1] / sampling.temperature))
        falling = np.sort(tempered)[::-1]
        least = falling[min(int(np.searchsorted(np.cumsum(falling), top_p)), len(falling) - 1)]
        kept = np.where(tempered >= least, tempered, 0)
        return tempered, kept / kept.sum()

    tempered, kept = policy(text)
    assert (kept == 0).any() == (top_p < 1)
    assert chi_square(tokens[:, 0], kept) < 5
    np.testing.assert_allclose(log_probs[:, 0], np.log(tempered)[tokens[:, 0]], rtol=0, atol=1e-5)
    for first in np.argsort(kept)[-2:]:
        group = tokens[:, 0] == first
        tempered, after = policy([*text, int(first)])
        assert chi_square(tokens[group, 1], after) < 5
        np.testing.assert_allclose(log_probs[group, 1], np.log(tempered)[tokens[group, 1]], rtol=0, atol=1e-5)
