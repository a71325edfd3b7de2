"""The loop's order, its end by steps, signal or NaN, and going on after an interruption."""

import os
import signal

import jax
import numpy as np
import pytest

from ebm_jax.errors import NonFiniteError, UserError
from ebm_jax.rng import root_key
from ebm_jax.training.checkpoints import Checkpoints
from ebm_jax.training.loop import train
from tests.training.toy import Lines, ToyLM, ToyStream, toy_config, toy_program, toy_start

STEPS = 8


@pytest.fixture(scope="module")
def config():
    return toy_config(steps=STEPS, eval_every=3, checkpoint_every=3, accumulate=2)


@pytest.fixture(scope="module")
def program(config):
    return toy_program(config)


def go(program, config, *, folder=None, stream=None, lines=None, evaluate=None, **options):
    """One run, or one attempt at it."""
    options = {"writer": lines, "stream": stream or ToyStream(), "evaluate": evaluate, **options}
    if folder is None:
        return train(program, toy_start(program), config=config, key=root_key(1), **options)
    with Checkpoints(folder, keep=config.keep) as checkpoints:
        start = toy_start(program, checkpoints)
        return train(program, start, config=config, key=root_key(1), checkpoints=checkpoints, **options)


def norm_of(state, step):
    return {"validation/norm": float(np.linalg.norm(state.params["up"]))}


def assert_bitwise(left, right):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(left), jax.device_get(right))


@pytest.fixture(scope="module")
def whole(program, config):
    lines, stream = Lines(), ToyStream()
    return go(program, config, lines=lines, stream=stream, evaluate=norm_of), lines, stream


class Interrupted(Exception):
    pass


class Breaks(ToyStream):
    """Fails instead of handing out one batch, as a killed machine does."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def __next__(self):
        if self.position == self.at:
            raise Interrupted
        return super().__next__()


@pytest.mark.parametrize("at", [4, 6, 7])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(program, config, whole, tmp_path, at):
    result, lines, stream = whole
    before, after, rest = Lines(), Lines(), ToyStream()
    with pytest.raises(Interrupted):
        go(program, config, folder=tmp_path, stream=Breaks(at), lines=before, evaluate=norm_of)
    resumed = go(program, config, folder=tmp_path, stream=rest, lines=after, evaluate=norm_of)
    assert_bitwise(resumed.state, result.state)
    saved = 3 * (at // 3)
    assert rest.handed_out == stream.handed_out[saved:]
    assert after.steady() == [line for line in lines.steady() if line[0] > saved]


def test_order(program, config, tmp_path):
    events = []

    class Told(ToyStream):
        def __next__(self):
            events.append(("batch", self.position))
            return super().__next__()

    class Writer:
        def write(self, step, values):
            events.append(("write", step))

    class Kept(Checkpoints):
        def save(self, step, state, **options):
            events.append(("checkpoint", step))
            super().save(step, state, **options)

    def evaluate(state, step):
        events.append(("evaluate", step))
        assert int(state.step) == step
        return {"x": 0.0}

    with Kept(tmp_path) as checkpoints:
        start = toy_start(program)
        options = {"stream": Told(), "evaluate": evaluate, "writer": Writer(), "checkpoints": checkpoints}
        train(program, start, config=config, key=root_key(1), **options)
    assert events[:10] == [
        ("batch", 0),
        ("batch", 1),
        ("write", 1),
        ("batch", 2),
        ("write", 2),
        ("write", 3),
        ("evaluate", 3),
        ("write", 3),
        ("checkpoint", 3),
        ("batch", 3),
    ]
    assert events[-4:] == [("write", 8), ("evaluate", 8), ("write", 8), ("checkpoint", 8)]


def test_a_step_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(config, tmp_path):
    program = toy_program(config, algorithm=ToyLM(poison_at=4))
    with pytest.raises(NonFiniteError, match=r"step 5 is not finite: .*loss/nll is nan.*gradient.*step 3 is intact"):
        go(program, config, folder=tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(program.abstract)
    assert restored is not None and restored.step == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.state.params))


def test_the_guard_keeps_the_whole_old_state(config):
    program = toy_program(config, algorithm=ToyLM(poison_at=0))
    start = toy_start(program)
    before = jax.device_get(start.state)
    from ebm_jax.parallel.multihost import to_global

    batch = to_global({**next(ToyStream()), "": np.zeros(16, np.uint8)}, program.mesh)
    after, output = program.step(start.state, batch, batch.pop(""), root_key(0))
    assert not output.finite
    assert_bitwise(after, before)


def test_a_signal_writes_a_checkpoint_and_returns(program, config, whole, tmp_path):
    class Signals(ToyStream):
        def __next__(self):
            if self.position == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    stopped = go(program, config, folder=tmp_path, stream=Signals())
    assert stopped.stopped_by == "SIGTERM" and 4 < stopped.step < STEPS
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = go(program, config, folder=tmp_path)
    assert resumed.stopped_by == "steps" and resumed.step == STEPS
    assert_bitwise(resumed.state, whole[0].state)
    again = go(program, config, folder=tmp_path, stream=Breaks(STEPS))
    assert again.step == STEPS


def test_data_that_end_are_an_error(program, config):
    class Short(ToyStream):
        def __next__(self):
            if self.position == 2:
                raise StopIteration
            return super().__next__()

    with pytest.raises(UserError, match="ended at step 2"):
        go(program, config, stream=Short())


def test_checkpoints_at_steps_that_are_named(program, tmp_path):
    go(program, toy_config(steps=6, accumulate=2, checkpoint_every=4, checkpoint_at=(1, 3), keep=9), folder=tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [1, 3, 4, 6]
