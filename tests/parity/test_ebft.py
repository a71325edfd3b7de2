"""Every stored case of strided block-parallel fine-tuning: masks, positions, log-probabilities, features and rewards."""

import dataclasses
import functools
import json
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithms.ebft import EBFT, FEATURES, REFERENCE, EBFTConfig
from ebm_jax.algorithms.token_log_probs import token_log_probs
from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of
from ebm_jax.interop.hugging_face.folder import read_published
from ebm_jax.interop.hugging_face.weights import load_params
from ebm_jax.losses import feature_matching as matching
from ebm_jax.models.features import FeatureConfig, cut, features
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.parallel.rules import unbox
from ebm_jax.precision import Precision
from tests.nn.allowed import allowed, step_major

VALUES = (2e-5, 5e-6)
LENGTHS = ("prompt_length", "context_length", "gen_length", "stride", "num_blocks", "n_samples", "prompts")
TEXTS = {"gen_layout": "step-major: token g of block b at P+g*NB+b", "hidden": "concat of hidden_states["}
"""What a fixture says of itself in words, and how that must begin."""
POOLINGS = {"last": "last", "last_token": "last", "mean": "mean", "mean_pooling": "mean"}
ARRAYS = re.compile(
    r"full_sequences|doc_ids|(doc_)?(mask_allowed|positions|prompt_logprobs|block_logprobs)|(gen|gt)_hidden"
    r"|(raw|white)_(gen_feat|gt_feat|alignment|diversity|(reward|rloo_advantage)_div[\d.]+)"
)
DOCUMENTS = {"": "joined", "doc_": "reference"}
"""What the prefix of an array's name says of documents."""


def pytest_generate_tests(metafunc):
    if "stored" in metafunc.fixturenames:
        folder = os.environ.get("EBM_JAX_PARITY_DIR")
        files = sorted(Path(folder).glob("ebft_strided*.npz")) if folder else []
        metafunc.parametrize("stored", files, ids=[f.stem for f in files], indirect=True, scope="module")


@pytest.mark.skipif(not os.environ.get("EBM_JAX_PARITY_DIR"), reason="EBM_JAX_PARITY_DIR names no fixtures")
def test_ebft_fixture_folder_exists():
    assert Path(os.environ["EBM_JAX_PARITY_DIR"]).is_dir()


def assert_close(ours, theirs, what):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{what}: {ours.shape} is not {theirs.shape}"
    error, bound = np.abs(ours - theirs).max(initial=0), VALUES[0] * np.abs(theirs).max(initial=0) + VALUES[1]
    assert error <= bound, f"{what}: off by {error:.3g}, allowed {bound:.3g}"


class Stored:
    """A fixture: its arrays, its sizes, and the method that it describes."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as f:
            self.arrays = {name: f[name] for name in f.files}
        meta = json.loads(str(self.arrays.pop("meta")))
        meta.setdefault("pooling", meta.pop("pool", "last"))
        if unknown := sorted(set(meta) - {*LENGTHS, *TEXTS, "model", "pooling"}):
            pytest.fail(f"{path.name} has options that are not compared: {unknown}")
        if unknown := [name for name in self.arrays if not ARRAYS.fullmatch(name)]:
            pytest.fail(f"{path.name} has arrays that are not compared: {unknown}")
        for name, value in {"pooling": "last", "model": "hf/", **TEXTS}.items():
            known = tuple(POOLINGS) if name == "pooling" else value
            if not meta.get(name, value).startswith(known):
                pytest.fail(f"{path.name}: {name}={meta[name]!r} is not known")
        self.places, prefix, self.steps, stride, self.blocks, self.samples, self.rows = (meta[n] for n in LENGTHS)
        self.lengths = {"steps": self.steps, "stride": stride, "prefix": prefix}
        self.pool = POOLINGS[meta["pooling"]]
        models = os.environ.get("EBM_JAX_HF_DIR") or path.parent / "hf"
        self.folder = Path(models) / meta["model"].removeprefix("hf/")
        self.published = read_published(self.folder)

    def __getitem__(self, name):
        return self.arrays[name]

    @functools.cached_property
    def params(self):
        network = TransformerLM(self.published.model, self.published.vocab_size)
        return load_params(self.folder, self.published, unbox(parameter_shapes(network)))

    def algorithm(self, documents="joined", **changes) -> EBFT:
        """The preset, with the fixture's lengths and pooling."""
        changes["anchors"] = AnchorConfig(**self.lengths, documents=documents)
        changes["features"] = FeatureConfig(pool=self.pool)
        config = EBFTConfig(**(REFERENCE | {"samples": self.samples} | changes))
        return EBFT(config, self.published.model, self.published.vocab_size, Precision())

    def batch(self):
        """Each prompt once, which the fixture's rows repeat."""
        each = self["full_sequences"][:, : self.places].reshape(self.rows, self.samples, -1)
        assert (each == each[:, :1]).all()
        ids = self["doc_ids"][:: self.samples]
        starts = np.where(np.diff(ids, axis=1, prepend=ids[:, :1] - 1) != 0, np.arange(self.places), 0)
        return {
            "inputs": jnp.asarray(each[:, 0], jnp.int32),
            "segments": jnp.asarray(ids + 1, jnp.int32),
            "positions": jnp.asarray(np.arange(self.places) - np.maximum.accumulate(starts, axis=1), jnp.int32),
            "index": jnp.arange(self.rows, dtype=jnp.uint32),
        }

    def made(self):
        """Its continuations, ``[B, G, S, T]``: they lie step by step, all blocks of a step side by side."""
        made = self["full_sequences"][:, self.places :].reshape(self.rows, self.samples, self.steps, self.blocks)
        return jnp.asarray(np.swapaxes(made, 2, 3), jnp.int32)

    def branches(self, documents="joined"):
        return branches_of(self.batch(), AnchorConfig(**self.lengths, documents=documents), jax.random.key(0))

    @functools.cached_property
    def found(self):
        """Features of every token and as they are pooled, and the latter's Gram matrices as rewards are made of them."""
        method, batch, made, branches = self.algorithm(), self.batch(), self.made(), self.branches()
        config, prompt = method.config, prompt_of(batch, method.config.anchors)

        @jax.jit
        def find(weights):
            rows = (method.depths, prompt, made, branches)
            read = lambda c: features(method.feature_network, weights, c, *rows)
            grams = method.grams({FEATURES: weights}, batch, made, branches)
            return read(dataclasses.replace(config.features, pool="token")), read(config.features), grams

        return find(cut(self.params, method.feature_network))


@pytest.fixture(scope="module")
def stored(request):
    return Stored(request.param)


DOC = pytest.mark.parametrize("doc", DOCUMENTS, ids=["joined", "documents"])


@DOC
def test_ebft_masks_and_positions(stored, doc):
    branches = stored.branches(DOCUMENTS[doc])
    assert branches.position_BxSxT.shape[1:] == (stored.blocks, stored.steps)
    prompt = prompt_of(stored.batch(), stored.algorithm(DOCUMENTS[doc]).config.anchors)
    ours = step_major(allowed(prompt.segments, branches), stored.places, stored.blocks, stored.steps)
    np.testing.assert_array_equal(np.repeat(ours, stored.samples, 0), stored[f"{doc}mask_allowed"])
    later = np.swapaxes(branches.position_BxSxT, 1, 2).reshape(stored.rows, -1)
    positions = np.concatenate([prompt.positions, later], axis=1)
    np.testing.assert_array_equal(np.repeat(positions, stored.samples, 0), stored[f"{doc}positions"])


@DOC
def test_ebft_log_probs(stored, doc):
    algorithm, batch, made = stored.algorithm(DOCUMENTS[doc], log_prob_temperature="one"), stored.batch(), stored.made()
    branches = stored.branches(DOCUMENTS[doc])

    @jax.jit
    def log_probs(params):
        hidden, first, later = algorithm._hidden(params, batch, made, branches)
        prompt = token_log_probs(algorithm.model, params, hidden[:, :-1], batch["inputs"][:, 1:, None])
        return prompt.log_probs_BxTxK[..., 0], algorithm._log_probs(params, first, later, made)[0]

    prompt, blocks = log_probs(stored.params)
    assert_close(np.repeat(prompt, stored.samples, 0), stored[f"{doc}prompt_logprobs"], "prompts")
    assert_close(blocks.reshape(-1, *blocks.shape[2:]), stored[f"{doc}block_logprobs"], "continuations")


def test_ebft_features(stored):
    """At every token, as they are pooled, and whitened."""
    each, pooled, grams = stored.found
    joined = lambda parts: np.concatenate(parts, axis=-1)
    rows = (-1, stored.blocks, stored.steps, 1, joined(each.truth).shape[-1])
    by_row = np.moveaxis(joined(each.samples), 3, 1).reshape(rows)
    assert_close(by_row, stored["gen_hidden"], "of samples")
    assert_close(np.repeat(joined(each.truth), stored.samples, 0).reshape(rows), stored["gt_hidden"], "of the text")
    samples = joined(pooled.samples)
    # The published code whitens as many copies of the true features as there are samples.
    copies = np.broadcast_to(joined(pooled.truth)[:, :, None], samples.shape)
    whiten = matching.whitening(grams.samples_XxGxG, stored.algorithm().config.whiten_tolerance)
    for kind, matrix in (("raw", np.eye(stored.samples)), ("white", np.asarray(whiten, np.float64))):
        assert_close(np.swapaxes(matrix @ samples, 1, 2), stored[f"{kind}_gen_feat"], f"{kind} of samples")
        assert_close(np.swapaxes(matrix @ copies, 1, 2), stored[f"{kind}_gt_feat"], f"{kind} of the text")


@pytest.mark.parametrize("kind", ["raw", "white"])
def test_ebft_rewards(stored, kind):
    changes = {"whiten": "none"} if kind == "raw" else {}
    method = stored.algorithm(**changes)
    method.grams = lambda *_: stored.found[2]
    scored = method.rewards(None, stored.batch(), stored.made(), stored.branches())
    by_sample = lambda x: np.swapaxes(x, 1, 2)
    alignment, diversity = scored.rewards.alignment_XxG, scored.rewards.diversity_XxG
    assert_close(by_sample(alignment), stored[f"{kind}_alignment"], "alignment")
    assert_close(by_sample(diversity), stored[f"{kind}_diversity"], "diversity")
    shares = [name.partition("_div")[2] for name in stored.arrays if name.startswith(f"{kind}_reward_div")]
    assert shares
    for share in shares:
        reward = alignment - float(share) * diversity
        assert_close(by_sample(reward), stored[f"{kind}_reward_div{share}"], "reward")
        advantages = stored.algorithm(**changes, alpha=float(share))._advantages(scored)[..., 0]
        assert_close(advantages, stored[f"{kind}_rloo_advantage_div{share}"], "advantage")
