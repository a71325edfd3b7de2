"""Next tokens that are moved: by values, by other models, by rewards; and how value heads are fitted."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from ebm_jax.decoders import controlled
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.controlled import BlockwiseControl, ControlledDecoding, ProxyTuning
from ebm_jax.decoders.guided import GuidedNetwork, ProxyNetwork, ValueHead, guided, proxied
from ebm_jax.decoders.job import engine_for
from ebm_jax.decoders.rewards import Response
from ebm_jax.decoders.run import decode
from ebm_jax.decoders.tokenwise import ARGS
from ebm_jax.decoders.values import ValueConfig, fit_head, load_head, save_head
from ebm_jax.errors import UserError
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.language_model import LanguageModel, open_model
from ebm_jax.nn.stack import separate_layers
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.precision import Precision
from tests import tiny
from tests.decoders import toy_model
from tests.decoders.on_toy import KEY, expected, law_of, run, worth
from tests.decoding.markov import toy
from tests.letters import GOLDEN, letters

PROMPTS = 4000
BOUND = 2 * expected(PROMPTS)
ONE = BestOfN(samples=1)


class Table(struct.PyTreeNode):
    """A value of every prefix and next token, found by the code that stands for the model's output."""

    codes_N: jax.Array
    values_NxV: jax.Array

    def __call__(self, network, params, hidden):
        at = jnp.argmin(jnp.abs(self.codes_N - hidden), -1)
        return self.values_NxV[at]


def values(of) -> Table:
    """``of(responses below, their probabilities, their rewards)`` for every prefix and token."""
    prefixes = {y[:n] for y in toy.RESPONSES for n in range(len(y))}
    rows = {}
    for prefix in prefixes:
        rows[toy.code(prefix)] = [
            of(
                toy.P[(below := np.array([y[: len(prefix) + 1] == (*prefix, v) for y in toy.RESPONSES]))],
                toy.REWARDS[below],
            )
            for v in range(toy.VOCAB)
        ]
    return Table(jnp.array(list(rows), jnp.float32), jnp.array(list(rows.values()), jnp.float32))


def moved(network, params) -> SimpleNamespace:
    model = toy_model.model()
    model.network, model.params = network, params
    return model


def test_values_of_the_tilt_sample_it_exactly_and_mean_rewards_do_not():
    soft = values(lambda p, r: np.log(p @ np.exp(toy.INV_TEMP * r) / p.sum()) / toy.INV_TEMP)
    mean = values(lambda p, r: p @ r / p.sum())
    far = []
    for head in (soft, mean):
        model = moved(GuidedNetwork(toy_model.ToyNetwork(), toy.INV_TEMP), {"model": {}, "head": head})
        far.append(toy.total_variation(law_of(run(ONE, range(PROMPTS), model=model)[0]), toy.PI))
    assert far[0] < BOUND < far[1]


def test_an_expert_less_its_base_moves_logits():
    networks = tuple(toy_model.ToyNetwork(sharpness) for sharpness in (1.0, 2.0, 0.5))
    found, _ = run(ONE, range(PROMPTS), model=moved(ProxyNetwork(networks, 1.0), [{}, {}, {}]))
    plain, _ = run(ONE, range(PROMPTS), model=toy_model.model(2.5))
    assert found.responses == plain.responses


def test_models_of_other_tokens_are_refused():
    other = toy_model.model()
    other.tokenizer = SimpleNamespace(fingerprint="other")
    with pytest.raises(UserError, match="has another tokenizer than toy"):
        proxied(toy_model.model(), other, other)
    with pytest.raises(UserError, match="names no value head"):
        ControlledDecoding().prepared(toy_model.model())
    with pytest.raises(UserError, match="name two models"):
        ProxyTuning(expert="one").prepared(toy_model.model())


def test_models_of_the_same_parts_share_their_programs():
    """Though each was opened for itself."""
    parts = [[language_model() for _ in range(3)] for _ in range(2)]
    one, same = (proxied(*three) for three in parts)
    other = proxied(*parts[0], weight=0.5)
    assert one.network == same.network and hash(one.network) == hash(same.network) and one.network != other.network
    runs = [engine_for(ONE, model, 4, KEY)._run for model in (one, same, other)]
    assert runs[0] is runs[1] and runs[0] is not runs[2]


def test_models_on_other_devices_are_refused():
    model, far = language_model(), language_model()
    far = replace(far, name="far", mesh=make_mesh(MeshConfig(data=2)))
    with pytest.raises(UserError, match=r"far is open on another mesh \(data=2, .*\) than tiny \(data=1, .*export it"):
        proxied(model, model, far)


def test_an_expert_and_its_base_are_opened_once_and_where_the_model_is(tmp_path, monkeypatch):
    """An expert that is its own base moves nothing."""
    pytest.importorskip("safetensors")
    of = lambda name: str(letters(GOLDEN / "llama3_tied", tmp_path / name))
    mesh, precision, opened = MeshConfig(fsdp=2, data=1, rules="fsdp"), Precision(compute="bfloat16"), []
    model = open_model(of("model"), mesh=mesh, precision=precision)
    monkeypatch.setattr(controlled, "open_model", lambda *a, **how: opened.append(open_model(*a, **how)) or opened[-1])
    method, prompts = ProxyTuning(expert=of("expert"), other=of("base")), [Prompt("h e l l o"), Prompt("a b")]
    draw = lambda method, seed: decode(model, prompts, method, max_new_tokens=4, seed=seed)
    for seed in range(2):
        found = draw(replace(method), seed)
        assert [s.responses for s in found.samples] == [s.responses for s in draw(ONE, seed).samples]
    assert [one.name for one in opened] == [method.expert, method.other]
    for one in opened:
        assert one.mesh == model.mesh and one.rules == model.rules and one.network == model.network


def scores(prefix: tuple[int, ...], weight: float) -> np.ndarray:
    tokens = [(*prefix, v) for v in range(toy.VOCAB)]
    return toy.logits(prefix) + weight * np.array([toy.reward(y) for y in tokens])


def test_args_takes_the_token_of_the_best_score():
    found, job = run(ARGS(top_k=3, weight=1.5), range(3))
    prefix: tuple[int, ...] = ()
    while len(prefix) < toy.HORIZON and toy.END not in prefix:
        prefix = (*prefix, int(np.argmax(scores(prefix, 1.5))))
    assert {response.tokens for response in found.responses} == {prefix}
    assert (job.account.tokens == len(prefix)).all() and (job.account.passes == len(prefix)).all()
    assert job.account.reward_calls.max() <= 3 * len(prefix)


def test_args_draws_by_scores():
    law = np.array(
        [
            np.prod([np.exp(s := scores(y[:n], 1.5))[token] / np.exp(s).sum() for n, token in enumerate(y)])
            for y in toy.RESPONSES
        ]
    )
    assert law.sum() == pytest.approx(1)
    found, _ = run(ARGS(top_k=3, weight=1.5, temperature=1.0), range(PROMPTS))
    assert toy.total_variation(law_of(found), law) < BOUND


def test_blocks_of_the_most_value():
    whole, _ = run(BlockwiseControl(candidates=3, block=toy.HORIZON), range(PROMPTS))
    order = np.argsort(toy.REWARDS)
    law = np.empty(31)
    law[order] = np.diff(np.cumsum(toy.P[order]) ** 3, prepend=0)
    assert toy.total_variation(law_of(whole), law) < BOUND
    plain, _ = run(BlockwiseControl(candidates=1, block=1), range(PROMPTS))
    assert toy.total_variation(law_of(plain), toy.P) < BOUND
    by_token, _ = run(BlockwiseControl(candidates=4, block=2), range(300))
    assert by_token.rewards.mean() > toy.P @ toy.REWARDS


def language_model() -> LanguageModel:
    algorithm, toys = tiny.lm(precision=Precision()), toy_model.model()
    return LanguageModel(
        name="tiny",
        network=algorithm.model.clone(separate_layers=True),
        params=separate_layers(tiny.generic(tiny.shapes(algorithm).params)),
        tokenizer=toys.tokenizer,
        context=32,
        prefix=(),
        ends=toys.ends,
        mesh=toys.mesh,
        rules=toys.rules,
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", ["rollouts", pytest.param("bellman", marks=pytest.mark.slow)])
def test_heads_learn_what_tokens_are_worth(target, tmp_path):
    """A token that is always worth 1, one that is always worth -1."""
    model, draw = language_model(), np.random.default_rng(0)
    prompts = draw.integers(1, 9, (200, 3)).tolist()
    good = draw.integers(0, 2, 200).astype(bool)
    responses = [Response((5 if one else 6, 3), "", True) for one in good]
    config = ValueConfig(target=target, steps=300, rows=32, learning_rate=3e-2)
    head, losses = fit_head(config, model, prompts, responses, np.where(good, 1.0, -1.0))
    assert losses[-20:].mean() < 0.3 * losses[0]
    save_head(tmp_path / "head.npz", head)
    again = load_head(tmp_path / "head.npz", model)
    moved_model = guided(model, again, 5.0)
    tokens, lengths = jnp.asarray(prompts[:8], jnp.int32), jnp.full(8, 3)
    _, prefix = moved_model.network.apply({"params": moved_model.params}, tokens, lengths, method="read")
    own, zero = moved_model.network.room(8, 8), jnp.zeros(8, jnp.int32)
    where = (prefix, lengths - 1, own, zero, jnp.zeros((), jnp.int32), tokens[:, -1])
    plain, _ = model.network.apply({"params": model.params}, *where, method="regrow")
    tilted, _ = moved_model.network.apply({"params": moved_model.params}, *where, method="regrow")
    gain = (tilted[:, 5] - tilted[:, 6]) - (plain[:, 5] - plain[:, 6])
    assert (gain > 0.5).all() and gain.mean() > 1.5


def test_heads_that_do_not_fit(tmp_path):
    model = language_model()
    with pytest.raises(UserError, match="there is no such file"):
        load_head(tmp_path / "none.npz", model)
    save_head(tmp_path / "wide.npz", ValueHead(jnp.zeros(3), jnp.zeros((3, 3))))
    with pytest.raises(UserError, match="is a value head for outputs of 3 numbers"):
        load_head(tmp_path / "wide.npz", model)
    with pytest.raises(UserError, match="one of each is needed"):
        fit_head(ValueConfig(), model, [[1]], [], np.zeros(0))


def test_settings_that_cannot_be():
    for make, told in (
        (lambda: ARGS(top_k=0), "top_k=0"),
        (lambda: BlockwiseControl(block=0), "block=0"),
        (lambda: ValueConfig(target="guess"), "is not one of rollouts, bellman"),
        (lambda: replace(ValueConfig(), steps=0), "steps=0"),
    ):
        with pytest.raises(UserError, match=told):
            make()


def test_rewards_are_of_the_text_so_far():
    seen = set()

    def telling(prompt, text, complete):
        seen.add((len(text), complete))
        return worth(prompt, text, complete)

    run(ARGS(top_k=2), range(2), reward=telling)
    assert (1, False) in seen
