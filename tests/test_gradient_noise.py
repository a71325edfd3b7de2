"""Signal and noise of gradients: estimates against what is known of made-up ones, and gradients against a training step's."""

from dataclasses import replace

import numpy as np
import pytest

from ebm_jax import cli
from ebm_jax.errors import UserError
from ebm_jax.experiment import open_experiment, run_training
from ebm_jax.gradient_noise import batch_gradients, efficiencies
from ebm_jax.training.config import TrainConfig
from experiments import gradient_noise
from tests.experiments import tiny_comparison


def made_up(signal: float, cosine: float, batches: int = 60, size: int = 800) -> dict[str, np.ndarray]:
    """Two methods whose expected gradients have length ``signal`` and that angle, with noise of length 1."""
    rng = np.random.default_rng(0)
    # Signs alone differ from place to place, so Adam's preconditioner is the same everywhere.
    one = np.sign(rng.normal(size=size))
    two = np.where(np.arange(size) < (1 - cosine) / 2 * size, -one, one)
    noise = lambda: rng.normal(size=(batches, size)) / np.sqrt(size)
    lengths = signal / np.sqrt(size)
    return {"one": (lengths * one + noise()).astype(np.float32), "two": (lengths * two + noise()).astype(np.float32)}


def test_efficiencies_are_those_of_known_signals():
    found = efficiencies(made_up(signal=0.5, cosine=0.6))
    own = 0.5 / np.sqrt(1 + 0.5**2)
    for method, target, true in (("one", "one", own), ("two", "two", own), ("one", "two", 0.6 * own)):
        estimate = found[method][target]
        assert 0 < estimate.error < 0.03 and abs(estimate.value - true) < 4 * estimate.error


def test_errors_are_as_large_as_estimates_scatter():
    drawn = made_up(signal=0.3, cosine=0.0, batches=400)
    parts = [efficiencies({"one": drawn["one"][i : i + 40]})["one"]["one"] for i in range(0, 400, 40)]
    scatter = np.std([part.value for part in parts], ddof=1)
    assert 0.4 < np.mean([part.error for part in parts]) / scatter < 2.5


def test_noise_alone_has_no_signal():
    found = efficiencies(made_up(signal=0.0, cosine=1.0))["one"]["one"]
    assert np.isnan(found.value) or found.value < 0.1


@pytest.mark.slow
def test_the_first_gradient_is_that_of_the_first_step(tmp_path):
    config = tiny_comparison.run_config(tmp_path, train=TrainConfig(steps=1, batch_size=8, log_every=1, eval_batches=1))
    taken = run_training(config, None)
    found = batch_gradients(open_experiment(config), 3)
    assert np.linalg.norm(found[0]) == pytest.approx(taken.metrics["grad_norm"], rel=1e-5)
    assert found.shape == (3, open_experiment(config).parameters()) and not np.array_equal(found[0], found[1])
    cut = replace(config, train=replace(config.train, accumulate=2))
    np.testing.assert_allclose(batch_gradients(open_experiment(cut), 3), found, rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match="batches=2 must be at least 3"):
        batch_gradients(open_experiment(config), 2)


@pytest.mark.slow
def test_a_comparison_s_methods_are_set_side_by_side(tmp_path, capsys, monkeypatch):
    given = tiny_comparison.comparison(tmp_path, tiny_comparison.begun(tmp_path))
    monkeypatch.setattr(cli, "load_and_call", lambda path, function: given)
    assert cli.main(gradient_noise.main, ["config.py", "batches=4"]) == 0
    printed = capsys.readouterr().out
    assert "| step of |" in printed and "| ebft " in printed and "| sft " in printed and " ± " in printed
    for argv, told in (
        (["config.py", "only=dpo"], "dpo: the methods are ebft, sft"),
        (["config.py", "batches=x"], "batches='x' must be a whole number"),
        ([], "one config is expected"),
    ):
        assert cli.main(gradient_noise.main, argv) == 2 and told in capsys.readouterr().err
    monkeypatch.setattr(cli, "load_and_call", lambda path, function: given.first)
    assert cli.main(gradient_noise.main, ["config.py"]) == 2
    assert "returned ExperimentConfig, and a comparison is expected" in capsys.readouterr().err
