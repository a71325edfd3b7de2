"""Chains on many devices draw what they draw on one."""

import jax
import pytest

from ebm_jax.decoders import engine
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.power import PowerSampling
from ebm_jax.decoders.rewards import CallableReward
from ebm_jax.decoders.run import decode
from ebm_jax.evals.tasks.protocol import Prompt
from ebm_jax.language_model import open_model
from ebm_jax.parallel.mesh import MeshConfig
from tests.letters import GOLDEN, letters

pytest.importorskip("safetensors")
PROMPTS = [Prompt(text) for text in ("h e l l o", "a b", "q u i c k", "z", "y o u", "t h e", "f o x", "b r o w n")]
VOWELS = CallableReward(lambda prompt, text, complete: float(sum(text.count(letter) for letter in "aeiou")), "vowels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(letters(GOLDEN / "llama3_tied", tmp_path_factory.mktemp("model") / "letters"))


@pytest.mark.parametrize(
    "method",
    [
        EBD(steps=5, inits=2),
        *(pytest.param(one, marks=pytest.mark.slow) for one in (BestOfN(samples=3), PowerSampling(block=4, steps=2))),
    ],
    ids=lambda method: method.kind,
)
@pytest.mark.parametrize(
    "mesh",
    [
        pytest.param(MeshConfig(), id="data"),
        pytest.param(MeshConfig(fsdp=4, tensor=2, rules="fsdp_tp"), id="fsdp_tp", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_draw_the_tokens_of_one(folder, method, mesh, monkeypatch):
    spread = []
    settle = engine.Engine.settle
    monkeypatch.setattr(engine.Engine, "settle", lambda *args: spread.append(settle(*args)) or spread[-1])
    how = {"max_new_tokens": 12, "seed": 3, "reward": VOWELS}
    one = decode(open_model(folder, mesh=MeshConfig(data=1)), PROMPTS, method, **how)
    spread.clear()
    many = decode(open_model(folder, mesh=mesh), PROMPTS, method, **how)
    for ours, theirs in zip(many.samples, one.samples, strict=True):
        assert [r.tokens for r in ours.responses] == [r.tokens for r in theirs.responses]
        assert ours.account == theirs.account
    own = jax.tree.leaves(spread[-1].memory.own)[0].sharding
    assert len(own.device_set) == 8
    if mesh.rules == "ddp":
        assert own.shard_shape((8, 2, 24, 4))[0] == 1, own
