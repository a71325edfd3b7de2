"""Features: of which blocks, of which tokens, how long, and the same as of an ordinary pass over each text by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithms.ebft import EBFT, FEATURES, EBFTConfig
from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of, true_continuations
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.models.features import Ends, FeatureConfig, cut, feature_network, features, token_features
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.precision import Precision
from tests import tiny
from tests.decoding.test_rollout import ANCHORS, BLOCKS, KEY, PLACES, SEGMENTS, STEPS, ordinary, packed, prefixes
from tests.models.test_lm_options import OPTIONS, model

SAMPLES = 2


@pytest.mark.parametrize(
    ("depth", "layers"),
    [(28, (7, 14, 21)), (16, (4, 8, 12)), (24, (6, 12, 18)), (36, (9, 18, 27)), (3, (1, 1, 2)), (1, (1, 1, 1))],
)
def test_blocks_of_published_sizes(depth, layers):
    assert FeatureConfig().layers(depth) == layers


def test_depths_are_shares_or_blocks_and_rise():
    assert FeatureConfig(depths=(12.0, 0.5, 1.0)).layers(16) == (1, 8, 12)
    assert FeatureConfig(depths=(0.29, 0.57)).layers(100) == (29, 57)  # 0.29 * 100 and 0.57 * 100 are a little less


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"depths": ()}, "must name at least one depth"),
        ({"depths": (0.5, 0.0)}, "each above 0"),
        ({"depths": (float("nan"),)}, "each above 0"),
        ({"depths": (0.5, 2.5)}, r"\[2\.5\] are neither shares below 1 nor whole numbers"),
        ({"depths": (0.5, 0.25, 0.5)}, "names a depth twice"),
        ({"norm": "l1"}, r"features\.norm='l1' is not one of joint, per_layer, none"),
        ({"pool": "max"}, r"features\.pool='max' is not one of last, mean, concat, token"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(UserError, match=says):
        FeatureConfig(**settings)
    with pytest.raises(UserError, match="the network has 4 blocks, not 5"):
        FeatureConfig(depths=(5.0,)).layers(4)


def found(name, depths, **settings):
    """Features of tokens, and the network, its weights and what it was given."""
    algorithm, params = model(name)
    config = FeatureConfig(depths=depths, dtype="float64", **settings)
    network = feature_network(config, algorithm.model.config, tiny.VOCAB)
    batch = packed()
    branches, prompt = branches_of(batch, ANCHORS, KEY), prompt_of(batch, ANCHORS)
    shape = (len(SEGMENTS), SAMPLES, BLOCKS, STEPS)
    made = jnp.asarray(np.random.default_rng(1).integers(1, tiny.VOCAB, shape), jnp.int32)
    layers = config.layers(algorithm.model.config.resolved_depth)
    weights = cut(params, network)
    assert all(w.shape[0] == layers[-1] for w in jax.tree.leaves(weights["stack"]))
    assert set(weights) == {"embed", "stack"}
    rows = (network, weights, config, layers, prompt, made, branches)
    return rows, tiny.jit(lambda w: token_features(network, w, config, layers, prompt, made, branches))(weights)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [name for name in OPTIONS if "," in name])
def test_one_pass_gives_the_streams_of_every_text_by_itself(name):
    """Of samples behind their prefixes and of the row's own text, after each depth, without the final norm."""
    depths = (1.0, 2.0) if "depth" not in OPTIONS[name] else (1.0, 3.0)
    (_, _, _, layers, _, made, branches), ours = found(name, depths, norm="none")
    algorithm, params = model(name)
    texts = [[*prefix, *own] for k in range(SAMPLES) for prefix, own in _behind(made[:, k])]
    texts += [[*prefix, *own] for prefix, own in _behind(true_continuations(packed()["inputs"], branches))]
    rows = np.array([text + [0] * (PLACES + STEPS - len(text)) for text in texts], np.int32)
    # True continuations that leave their document are read there.
    inside = np.asarray(branches.there_BxS).ravel() > 0
    for part, layer in enumerate(layers):
        one = FeatureConfig(depths=(float(layer),), dtype="float64")
        alone = feature_network(one, algorithm.model.config, tiny.VOCAB)
        stream = lambda self, *rows: self.stack.hidden(self._embedded(rows[0]), *self._views(*rows[1:]))
        x = tiny.jit(lambda w, n=alone, s=stream: n.apply({"params": w}, rows, *ordinary(rows.shape), method=s))(
            cut(params, alone)
        )
        ends = np.array([len(text) for text in texts])[:, None] - STEPS + np.arange(STEPS)
        expected = np.take_along_axis(np.asarray(x), ends[..., None], axis=1)
        expected = expected.reshape(SAMPLES + 1, len(SEGMENTS), BLOCKS, STEPS, -1)
        samples = np.moveaxis(np.asarray(ours.samples[part]), 1, 0)
        np.testing.assert_allclose(samples, expected[:SAMPLES], rtol=0, atol=1e-12)
        truth = np.asarray(ours.truth[part]).reshape(-1, STEPS, x.shape[-1])
        np.testing.assert_allclose(truth[inside], expected[-1].reshape(truth.shape)[inside], rtol=0, atol=1e-12)


def _behind(tokens_BxSxT):
    return zip(prefixes(packed()), np.asarray(tokens_BxSxT).reshape(-1, STEPS).tolist(), strict=True)


@pytest.mark.usefixtures("x64")
def test_lengths():
    """One of all depths together, or of each, at every token of samples and of the text; zero vectors have none."""
    depths = (1.0, 3.0)
    (network, weights, _, *rest), _ = found("norms behind, some windows, yarn where there is none", depths)

    @tiny.jit
    def run(weights):
        configs = [FeatureConfig(depths=depths, norm=norm, dtype="float64") for norm in ("none", "joint", "per_layer")]
        return [token_features(network, weights, config, *rest) for config in configs]

    for raw, joint, each in zip(*run(weights), strict=True):
        squares = [np.sum(np.square(x), -1, keepdims=True) for x in raw]
        for x, a, b, square in zip(raw, joint, each, squares, strict=True):
            np.testing.assert_allclose(a, x / np.sqrt(sum(squares)), rtol=0, atol=1e-13)
            np.testing.assert_allclose(b, x / np.sqrt(square), rtol=0, atol=1e-13)
    for x in jax.tree.leaves(run(jax.tree.map(jnp.zeros_like, weights))):
        assert not np.asarray(x).any()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_pooling():
    name, depths = "window", (1.0, 2.0)
    _, tokens = found(name, depths)
    rng = np.random.default_rng(5)
    last = rng.integers(0, STEPS, (len(SEGMENTS), SAMPLES, BLOCKS)), rng.integers(0, STEPS, (len(SEGMENTS), BLOCKS))
    beside = lambda x: np.moveaxis(x, 1, -2)
    whole = lambda x, _: x
    cut = lambda x, last: x * (np.arange(STEPS) <= last[..., None])[..., None]
    at = lambda x, last: np.take_along_axis(x, last[..., None, None], axis=-2)[..., 0, :]
    flat = lambda x: x.reshape(*x.shape[:-2], -1)
    expected = {
        ("last", False): lambda x, _: x[..., -1, :],
        ("last", True): at,
        ("mean", False): lambda x, _: x.mean(-2),
        ("mean", True): lambda x, last: cut(x, last).sum(-2) / (last[..., None] + 1),
        ("concat", False): lambda x, _: flat(x),
        ("concat", True): lambda x, last: flat(cut(x, last)),
        ("token", False): whole,
        ("token", True): cut,
    }
    (network, weights, _, *rest), _ = found(name, depths)

    @tiny.jit
    def run(weights):
        configs = {how: FeatureConfig(depths=depths, dtype="float64", pool=how[0]) for how in expected}
        ends = Ends(*map(jnp.asarray, last))
        return [features(network, weights, c, *rest, ends if how[1] else None) for how, c in configs.items()]

    for ours, of in zip(run(weights), expected.values(), strict=True):
        for part in range(2):
            samples, truth = np.asarray(tokens.samples[part]), np.asarray(tokens.truth[part])
            np.testing.assert_allclose(ours.samples[part], beside(of(samples, last[0])), rtol=0, atol=1e-14)
            np.testing.assert_allclose(ours.truth[part], of(truth, last[1]), rtol=0, atol=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("documents", ["separate", "joined", "reference"])
def test_samples_that_are_the_true_text_have_its_features_and_log_probabilities(documents):
    anchors = AnchorConfig(prefix=2, stride=3, steps=STEPS, documents=documents)
    config = EBFTConfig(
        samples=2,
        anchors=anchors,
        sampling=SamplingConfig(temperature=1.0),
        features=FeatureConfig(depths=(0.5, 2.0), dtype="float64"),
    )
    algorithm = EBFT(config, tiny.transformer(), tiny.VOCAB, tiny.DOUBLE)
    params = tiny.generic(tiny.shapes(algorithm).params)
    batch = packed()
    branches = branches_of(batch, anchors, KEY)
    true = true_continuations(batch["inputs"], branches)
    made = jnp.broadcast_to(true[:, None], (len(true), 2, *true.shape[1:]))
    # As published, a block that begins or goes on in another document stands elsewhere than the text.
    segments = np.asarray(prompt_of(batch, anchors).segments)
    place = np.asarray(branches.anchor_BxS)[..., None] + np.arange(-1, STEPS)
    inside = np.stack([np.ptp(row[at], axis=-1) == 0 for row, at in zip(segments, place, strict=True)])
    assert inside.all() == (documents == "joined") and inside.sum() > 4

    @tiny.jit
    def run(params):
        scored = algorithm.rewards({FEATURES: cut(params, algorithm.feature_network)}, batch, made, branches)
        hidden, first, later = algorithm._hidden(params, batch, made, branches)
        ordinary = jax.nn.log_softmax(algorithm.model.apply({"params": params}, hidden, method="logits"))
        return scored, ordinary, algorithm._log_probs(params, first, later, made)[0]

    scored, ordinary, log_probs = run(params)
    np.testing.assert_allclose(np.asarray(scored.rewards.alignment_XxG)[inside], 2, rtol=1e-13)
    np.testing.assert_allclose(np.asarray(scored.rewards.diversity_XxG)[inside], 2, rtol=1e-13)
    before = np.take_along_axis(np.asarray(ordinary), (place[..., :-1]).reshape(len(true), -1, 1), axis=1)
    expected = np.take_along_axis(before, np.asarray(true).reshape(len(true), -1, 1), axis=2).reshape(true.shape)
    for sample in range(2):
        np.testing.assert_allclose(log_probs[:, sample][inside], expected[inside], rtol=0, atol=1e-12)


def test_half_precision_is_of_weights_and_products_alone():
    config = FeatureConfig(depths=(0.5,), dtype="bfloat16")
    network = feature_network(config, TransformerConfig(width=8, depth=2, heads=2), tiny.VOCAB)
    algorithm = tiny.lm(precision=Precision())
    params = tiny.generic(tiny.shapes(algorithm).params)
    weights = cut(params, network)
    assert {w.dtype for w in jax.tree.leaves(weights)} == {jnp.dtype("bfloat16")}
    batch = packed()
    rows = (prompt_of(batch, ANCHORS), jnp.ones((3, 1, BLOCKS, STEPS), jnp.int32), branches_of(batch, ANCHORS, KEY))
    exact = feature_network(FeatureConfig(depths=(0.5,)), algorithm.model.config, tiny.VOCAB)
    pairs = ((network, weights), (exact, cut(params, exact)))
    both = tiny.jit(lambda given: [features(n, w, config, (1,), *rows) for (n, _), w in zip(pairs, given, strict=True)])
    for x, y in zip(*map(jax.tree.leaves, both([w for _, w in pairs])), strict=True):
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, y, rtol=0, atol=0.05)
        np.testing.assert_allclose(np.sum(np.square(x), -1), 1, rtol=1e-6)
