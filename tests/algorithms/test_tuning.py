"""Fine-tuning and reward models: however texts lie in rows the loss is the same, and adapters begin as their base."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.algorithm import BatchSpec, Variables
from ebm_jax.algorithms.lm import LM, LMConfig
from ebm_jax.algorithms.reward_model import RewardModel, RewardModelConfig
from ebm_jax.algorithms.sft import SFT, SFTConfig
from ebm_jax.data.packing import Whole
from ebm_jax.data.rows import Rows
from ebm_jax.errors import UserError
from ebm_jax.interop.hugging_face.layouts import entries as published_entries
from ebm_jax.interop.hugging_face.layouts import their_shape
from ebm_jax.models.lora import LoraConfig
from ebm_jax.models.reward import rewards_of_pairs, rewards_of_rows
from ebm_jax.parallel.rules import unbox
from ebm_jax.precision import Precision
from ebm_jax.rng import root_key
from ebm_jax.training.step import gradients
from tests.tiny import DOUBLE, VOCAB, assert_trees_close, fresh, generic, jit, shapes, transformer

LORA = LoraConfig(rank=2, targets=("*/query", "*/out", "*/up"))
LENGTHS = [3, 6, 4, 5, 2, 6, 5, 4]
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(1, VOCAB, length) for length in LENGTHS]
SCORED = [np.arange(length) >= length // 2 for length in LENGTHS]


def sft(vocab=VOCAB, precision=DOUBLE, **config):
    return SFT(SFTConfig(**config), transformer(kv_heads=1), vocab, precision)


def reward(**config):
    return RewardModel(RewardModelConfig(**config), transformer(kv_heads=1), VOCAB, DOUBLE)


def batch_of(texts, context, layout="packed", pairs=False, scored=None, pad=0):
    whole = Whole(context, "drop", group=2 if pairs else 1, predicts=not pairs)
    rows = Rows.from_documents(texts, context=context, layout=layout, scored=scored, whole=whole, pad_id=pad)
    return {name: jnp.asarray(array) for name, array in rows.gather(np.arange(len(rows))).items()}


def loss_and_gradients(algorithm, variables, batch, accumulate=1):
    def loss(params, part):
        return algorithm.loss(params, variables.replace(params=params), part, root_key(0), 0)

    return jit(lambda params: gradients(loss, params, batch, accumulate))(variables.params)


def variables_of(algorithm, seed=0):
    like = shapes(algorithm)
    return Variables(params=generic(like.params, seed), frozen=generic(like.frozen, seed + 1))


def assert_same(one, other, metric="nll"):
    (grads, sums), (other_grads, other_sums) = one, other
    assert_trees_close(grads, other_grads, 1e-9)
    for name, value in other_sums.metrics.items():
        np.testing.assert_allclose(sums.metrics[name], value, rtol=1e-9, err_msg=name)


METHODS = {
    "sft": (sft(), False),
    "sft lora": (sft(lora=LORA), False),
    "reward": (reward(centering=0.1, margin=0.2, language=0.3), True),
    "reward lora": (reward(lora=LORA), True),
}


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", METHODS)
def test_packed_is_unpacked(method):
    algorithm, pairs = METHODS[method]
    variables = variables_of(algorithm)
    scored = None if pairs else SCORED
    packed = batch_of(TEXTS, 24, pairs=pairs, scored=scored)
    alone = batch_of(TEXTS, 12, "truncate", pairs=pairs, scored=scored)
    assert len(packed["inputs"]) < len(alone["inputs"]) == (4 if pairs else 8)
    assert_same(*(loss_and_gradients(algorithm, variables, batch) for batch in (packed, alone)))


@pytest.mark.usefixtures("x64")
def test_microbatches_of_pairs_are_the_whole_batch():
    algorithm = reward(centering=0.1, language=0.3)
    variables = variables_of(algorithm)
    batch = batch_of(TEXTS, 12, "truncate", pairs=True)
    whole = loss_and_gradients(algorithm, variables, batch)
    assert int(whole[1].metrics["nll"].weight) == 4
    assert_same(loss_and_gradients(algorithm, variables, batch, 4), whole)


@pytest.mark.usefixtures("x64")
def test_fine_tuning_is_language_modelling_of_the_scored_tokens():
    algorithm, plain = sft(), LM(LMConfig(), transformer(kv_heads=1), VOCAB, DOUBLE)
    params = variables_of(algorithm).params
    batch = batch_of(TEXTS, 24, scored=SCORED)
    ours = algorithm.loss(params, Variables(params), batch, root_key(0), 0).metrics["nll"]
    theirs = plain.loss(params, Variables(params), batch, root_key(0), 0).metrics["nll"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert float(ours.weight) == sum(flags[1:].sum() for flags in SCORED)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_reward_model_that_writes_is_a_language_model_of_the_better_texts():
    """Yang et al. 2024: its own cross-entropy, weighted, beside the preference's loss."""
    writes, plain = reward(language=0.3), LM(LMConfig(), transformer(kv_heads=1), VOCAB, DOUBLE)
    params, batch = variables_of(writes).params, batch_of(TEXTS, 24, pairs=True)
    found = writes.loss(params, Variables(params), batch, root_key(0), 0)
    network = {name: part for name, part in params.items() if name != "score"}
    better = batch_of(TEXTS[::2], 24)
    expected = plain.loss(network, Variables(network), better, root_key(0), 0).metrics["nll"]
    np.testing.assert_allclose(found.metrics["language_nll"], expected, rtol=1e-12)
    assert found.terms["language"].coef == 0.3
    assert float(expected.weight) == sum(length - 1 for length in LENGTHS[::2])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_wide_vocabulary_in_pieces_is_the_whole(monkeypatch):
    algorithm = sft()
    variables, batch = variables_of(algorithm), batch_of(TEXTS, 24, scored=SCORED)
    whole = loss_and_gradients(algorithm, variables, batch)
    monkeypatch.setattr("ebm_jax.pieces.WIDE", 2)
    assert_same(loss_and_gradients(algorithm, variables, batch), whole)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ["sft", "reward"])
def test_adapters_begin_as_their_base_and_end_merged(method):
    make = sft if method == "sft" else reward
    adapted, pairs = make(lora=LORA), method == "reward"
    batch = batch_of(TEXTS, 24, pairs=pairs, scored=None if pairs else SCORED)
    variables = fresh(adapted)
    assert set(variables.params) == {"lora", *adapted.new} and set(variables.frozen) == {"base"}
    base = variables.frozen["base"] | {name: variables.params[name] for name in adapted.new}
    nll = lambda algorithm, v: algorithm.loss(v.params, v, batch, root_key(0), 0).metrics["nll"].mean()
    plain = make()
    assert float(nll(adapted, variables)) == float(nll(plain, Variables(base)))
    trained = variables.replace(params=generic(variables.params))
    deployed = adapted.deployed(trained.params, trained.frozen)
    assert jax.tree.structure(deployed) == jax.tree.structure(base)
    np.testing.assert_allclose(nll(adapted, trained), nll(plain, Variables(deployed)), rtol=1e-12)
    # Deployed, an adapted network is an ordinary one: nothing is frozen any more.
    np.testing.assert_allclose(nll(adapted, Variables(deployed)), nll(plain, Variables(deployed)), rtol=1e-12)
    assert abs(float(nll(adapted, trained) - nll(adapted, variables))) > 1e-3


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_reward_model_goes_on_with_the_head_of_another(lora):
    plain, goes_on = reward(), reward(weights_of="reward_model", lora=lora)
    spec, key = BatchSpec(batch_size=1, context=4, vocab_size=VOCAB), root_key(0)
    like = unbox(jax.eval_shape(lambda: goes_on.init_network(key, spec)))
    trained = variables_of(plain, seed=5).params
    assert jax.tree.structure(like) == jax.tree.structure(trained)
    start = fresh(goes_on)
    params, frozen = goes_on.adopt(trained, start.params), goes_on.freeze(trained)
    assert jax.tree.structure(params) == jax.tree.structure(start.params)
    assert_trees_close(goes_on.deployed(params, frozen), trained, 0)
    for bad in ({"weights_of": "run"}, {"weights_of": "reward_model", "language": 0.1}):
        with pytest.raises(UserError, match=r"algorithm\.(weights_of|language)"):
            RewardModelConfig(**bad)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_weights_of_a_language_model_go_where_they_belong(tied):
    model = transformer(tied=tied)
    language_model = generic(shapes(LM(LMConfig(), model, VOCAB, Precision())).params)
    for lora in (None, LORA):
        for algorithm in (
            SFT(SFTConfig(lora=lora), model, VOCAB, Precision()),
            RewardModel(RewardModelConfig(lora=lora), model, VOCAB, Precision()),
        ):
            start = fresh(algorithm)
            params, frozen = algorithm.adopt(language_model, start.params), algorithm.freeze(language_model)
            assert jax.tree.structure(params) == jax.tree.structure(start.params)
            assert jax.tree.structure(frozen) == jax.tree.structure(start.frozen)
            deployed = algorithm.deployed(params, frozen)
            assert ("head" in deployed) == (isinstance(algorithm, SFT) and not tied)
            for name in language_model.keys() & deployed.keys():
                assert_trees_close(deployed[name], language_model[name], 0)


def test_rewards_are_read_at_the_last_tokens():
    rewards = jnp.arange(12.0).reshape(2, 6)
    segments = jnp.array([[1, 1, 2, 3, 4, 4], [1, 2, 2, 0, 0, 0]])
    chosen, rejected, there = rewards_of_pairs(rewards, segments)
    assert chosen.tolist() == [[1, 3, 0], [6, 0, 0]] and rejected.tolist() == [[2, 5, 0], [8, 0, 0]]
    assert there.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert rewards_of_rows(rewards, segments).tolist() == [5, 8]
    assert rewards_of_rows(rewards, jnp.zeros((2, 6), int)).tolist() == [0, 0]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_rewards_do_not_see_padding():
    algorithm = reward()
    params = {"params": variables_of(algorithm).params}
    read = ("inputs", "positions", "segments")
    score = lambda batch: algorithm.module.apply(params, *(batch[name] for name in read), method="of_rows")
    wide = batch_of([np.append(text, 1) for text in TEXTS], 16, "truncate", pad=7)
    narrow = {name: value[:, :6] if value.ndim > 1 else value for name, value in wide.items()}
    expected = score(narrow)
    np.testing.assert_allclose(score(wide), expected, rtol=1e-12)
    other = dict(wide) | {"inputs": jnp.where(wide["segments"] > 0, wide["inputs"], 3)}
    np.testing.assert_allclose(score(other), expected, rtol=1e-12)
    assert len(set(np.asarray(expected).round(6).tolist())) == len(TEXTS)


@pytest.mark.usefixtures("x64")
def test_parameters_are_those_of_a_published_classifier_with_one_label():
    algorithm = reward()
    entries = published_entries(algorithm.module.config, head="score", renamed={})
    tree = jax.tree_util.tree_leaves_with_path(shapes(algorithm).params)
    assert {entry.path for entry in entries} == {tuple(key.key for key in path) for path, _ in tree}
    score = next(entry for entry in entries if entry.path == ("score",))
    assert their_shape(score, shapes(algorithm).params["score"].shape) == (1, 8)
