"""What compared methods must share, how they are given equal work, and what makes a record stale."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ebm_jax import comparison as compared
from ebm_jax.algorithms.sft import SFTConfig
from ebm_jax.comparison import Comparison, _decisive, _measured, matched_steps, run_comparison, with_steps
from ebm_jax.data.digests import fingerprint
from ebm_jax.errors import NonFiniteError, UserError
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.records import FINETUNED
from ebm_jax.serialize import from_dict, to_dict
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.record import write_json
from tests.experiments import tiny_comparison


@pytest.fixture
def tiny(tmp_path):
    return tiny_comparison.comparison(tmp_path, "somewhere")


def test_a_comparison_is_plain_values(tiny):
    assert from_dict(Comparison, to_dict(tiny)) == tiny


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {}}, "has no methods"),
        ({"seeds": ()}, "different numbers from 0 on"),
        ({"seeds": (1, 1)}, "different numbers from 0 on"),
        ({"headline": "chrf"}, "headline='chrf' is not one of the tasks bleu"),
        ({"rows_of": "rlvr"}, "rows_of='rlvr' is not one of the methods ebft, sft"),
        ({"matched": {"sft": "rlvr"}}, "must name two methods"),
        ({"matched": {"sft": "ebft", "ebft": "sft"}}, "the second with steps of its own"),
    ],
)
def test_comparisons_that_cannot_be(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        replace(tiny, **changes)


@pytest.mark.parametrize("name", ["base", "optim", "seeds", "a/b", "a,b", "..", "", "data.x", "a=b"])
def test_names_that_no_folder_or_key_could_bear(tiny, name):
    with pytest.raises(UserError, match="cannot name a method"):
        replace(tiny, methods={name: tiny.first})
    assert replace(tiny, methods={"gamma0.1_alpha-1": tiny.first}).first is tiny.first


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("model", {"model": TransformerConfig(depth=1)}),
        ("weights", {"weights": "elsewhere"}),
        ("vocab_size", {"vocab_size": 300}),
        ("data.tokenizer", {"data": None}),
    ],
)
def test_methods_begin_with_one_model(tiny, key, change):
    if change == {"data": None}:
        change = {"data": replace(tiny.first.data, tokenizer="hf:other.json")}
    with pytest.raises(UserError, match=f"sft has another {key}: compared methods begin with one model"):
        replace(tiny, methods=tiny.methods | {"sft": replace(tiny.methods["sft"], **change)})


def test_equal_work_is_counted_in_flops(tiny, monkeypatch):
    """Nine steps that cost 7 each are 63: sixteen steps of 4 are the first to reach it."""
    cost = {"ebft": 7.0, "sft": 4.0}
    open_ = lambda config: SimpleNamespace(training_flops=lambda: cost[config.algorithm.kind])
    monkeypatch.setattr(compared, "open_experiment", open_)
    methods = {name: replace(c, train=replace(c.train, steps=9)) for name, c in tiny.methods.items()}
    given = replace(tiny, methods=methods | {"sft_flops": methods["sft"]}, matched={"sft_flops": "ebft"})
    assert matched_steps(given) == {"sft_flops": 16} and matched_steps(given, ["ebft", "sft"]) == {}
    cost["sft"] = 1e6
    assert matched_steps(given) == {"sft_flops": 1}, "one step at least"


def test_flops_of_real_methods_are_compared(tiny):
    begun = {name: replace(config, weights=None) for name, config in tiny.methods.items()}
    given = replace(tiny, methods=begun | {"more": begun["sft"]}, matched={"more": "ebft"})
    assert matched_steps(given)["more"] > given.first.train.steps


def test_steps_stretch_the_schedule_with_them():
    config = ExperimentConfig(
        optim=OptimConfig(warmup_steps=30, decay_steps=900),
        train=TrainConfig(steps=1000, eval_every=100, checkpoint_every=300, keep_best="validation/nll"),
    )
    assert with_steps(config, None) is config and with_steps(config, 1000) is config
    for steps in (1, 7, 333, 2500):
        longer = with_steps(config, steps)
        assert longer.train.steps == steps and longer.optim.warmup_steps == max(1, round(0.03 * steps))
        assert longer.optim.decay_steps > longer.optim.warmup_steps
        assert longer.train.checkpoint_every == 3 * longer.train.eval_every, "keep_best needs an evaluation at each"
    assert with_steps(config, 2500).optim.decay_steps == 2250
    never = replace(config, train=TrainConfig(steps=10), optim=OptimConfig(warmup_steps=0, decay_steps=10))
    longer = with_steps(never, 20)
    assert (longer.train.eval_every, longer.train.checkpoint_every, longer.optim.warmup_steps) == (0, 0, 0)


def test_records_hold_for_the_run_and_the_evaluation_that_made_them(tmp_path):
    config = ExperimentConfig(algorithm=SFTConfig())
    made_by = lambda config: {"evaluation": "a", "run": fingerprint(_decisive(config))}
    assert not _measured(tmp_path, made_by(config))
    write_json(tmp_path / FINETUNED, {"nll": 1.0, **made_by(config)})
    assert _measured(tmp_path, made_by(config))
    told = replace(config, name="other", train=replace(config.train, log_every=3))
    assert _measured(tmp_path, made_by(told)), "what is logged does not make another run"
    for other in (
        replace(config, seed=1),
        replace(config, train=replace(config.train, steps=7)),
        replace(config, optim=OptimConfig(peak_lr=1.0)),
    ):
        assert not _measured(tmp_path, made_by(other))
    assert not _measured(tmp_path, made_by(config) | {"evaluation": "b"})


@pytest.fixture
def faked(tiny, monkeypatch, tmp_path):
    """A comparison whose training and measuring are noted down instead of done; ``ends`` says how a run ends."""
    done, ends = [], {}

    class Evaluation:
        identity = "same"

        def __init__(self, comparison):
            pass

        def weights(self, source, model):
            return source

        def __call__(self, folder, params, told):
            done.append(f"measure {folder.relative_to(tmp_path)}")
            write_json(folder / FINETUNED, told)

    def train(config, folder, argv):
        done.append(f"train {config.name} seed {config.seed}")
        end = ends.get(folder.relative_to(tmp_path).as_posix(), config.train.steps)
        if isinstance(end, Exception):
            raise end
        return SimpleNamespace(step=end)

    opened = SimpleNamespace(training_flops=lambda: 5.0, parameters=lambda: 7)
    monkeypatch.setattr(compared, "Evaluation", Evaluation)
    monkeypatch.setattr(compared, "run_training", train)
    monkeypatch.setattr(compared, "open_run", lambda folder: (opened, "params", 3))

    def run(comparison=tiny, **options):
        done.clear()
        return run_comparison(comparison, tmp_path, report=lambda line: None, **options)

    return SimpleNamespace(done=done, ends=ends, run=run, comparison=tiny)


def test_every_method_is_run_with_every_seed_once(faked):
    given = replace(faked.comparison, seeds=(0, 4))
    assert faked.run(given) == (False, [])
    runs = [("ebft", 0), ("ebft", 4), ("sft", 0), ("sft", 4)]
    wanted = [(f"train tiny_{name} seed {seed}", f"measure {name}/seed={seed}") for name, seed in runs]
    assert faked.done == ["measure base", *(line for pair in wanted for line in pair)]
    assert faked.run(given) == (False, []) and faked.done == []
    assert faked.run(replace(given, seeds=(4, 5)), only=["sft"]) == (False, [])
    assert faked.done == ["train tiny_sft seed 5", "measure sft/seed=5"]
    longer = {name: replace(c, train=replace(c.train, steps=5)) for name, c in given.methods.items()}
    faked.run(replace(given, methods=longer), only=["sft"])
    assert faked.done[:2] == ["train tiny_sft seed 0", "measure sft/seed=0"], "more steps are another run"


def test_a_run_that_diverges_leaves_the_others_alone(faked):
    faked.ends["ebft/seed=0"] = NonFiniteError("step 2 is not finite")
    stopped, failed = faked.run()
    assert not stopped and len(failed) == 1 and failed[0].endswith("ebft/seed=0: step 2 is not finite")
    assert faked.done == ["measure base", "train tiny_ebft seed 0", "train tiny_sft seed 0", "measure sft/seed=0"]


def test_a_run_that_was_stopped_is_not_measured_and_ends_the_command(faked):
    faked.ends["ebft/seed=0"] = 2
    assert faked.run().stopped and faked.done == ["measure base", "train tiny_ebft seed 0"]
    del faked.ends["ebft/seed=0"]
    assert not faked.run().stopped and faked.done[0] == "train tiny_ebft seed 0"


def test_a_longer_run_is_not_taken_for_a_shorter_one(faked):
    faked.ends["ebft/seed=0"] = 30
    with pytest.raises(UserError, match=r"is at step 30, behind train\.steps=3: use another workdir"):
        faked.run()


def test_unknown_methods_are_refused_before_anything_is_opened(tiny):
    with pytest.raises(UserError, match="rlvr: the methods are ebft, sft"):
        run_comparison(tiny, Path("nowhere"), only=["rlvr"])
