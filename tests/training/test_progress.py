"""Rates and the progress line."""

import io

import pytest

from ebm_jax.errors import UserError
from ebm_jax.training import progress
from ebm_jax.training.config import TrainConfig
from ebm_jax.training.progress import Meter, Progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "perf_counter", lambda: Clock.now)
    return Clock


def test_rates(clock):
    meter = Meter(devices=2, flops_per_step=1e6, peak_flops=1e6)
    meter.count(999)
    assert meter.read() == {}
    for _ in range(2):
        clock.now += 2
        meter.count(100)
    with meter.paused():
        clock.now += 50
    rates = {"step_time": 2.0, "tokens_per_s": 50.0, "tokens_per_s_per_device": 25.0, "flops_per_s": 5e5, "mfu": 0.25}
    assert meter.read() == pytest.approx(rates)
    assert meter.read() == {}


RATES = {"step_time": 2.0, "tokens_per_s": 51234.0, "flops_per_s": 2e12, "mfu": 0.5}


def test_line_without_a_terminal():
    out = io.StringIO()
    line = Progress(100, every_s=1e9, out=out, shown={"nll": "nats"})
    line.update(10, {"loss": 3.25, "nll": 1.5}, RATES)
    line.update(11, {"loss": 3.0}, {})
    line.say("evaluation")
    line.update(100, {"loss": 2.0}, {})
    assert out.getvalue().splitlines() == [
        "train 10/100 | loss 3.25 | nats 1.5 | 51.2 k tok/s | 2 TFLOP/s | MFU 50.0% | ETA 3:00",
        "evaluation",
        "train 100/100 | loss 2 | 51.2 k tok/s | 2 TFLOP/s | MFU 50.0% | ETA 0:00",
    ]


def test_live_line_is_one_line():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Terminal()
    line = Progress(10, out=out)
    line.update(1, {"loss": 3.25}, {})
    line.update(10, {"loss": 3.0}, {})
    line.close()
    assert out.getvalue().count("\n") == 1 and out.getvalue().count("\r") == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, r"train\.steps=0 must be at least 1"),
        ({"batch_size": 6, "accumulate": 4}, r"batch_size=6 is not divisible by train\.accumulate=4"),
        ({"eval_every": -1}, r"eval_every=-1 must not be negative"),
        ({"keep_best": "nll", "eval_every": 4, "checkpoint_every": 6}, "must be a multiple"),
        ({"keep_best": "nll", "eval_every": 4, "checkpoint_at": (8, 9)}, "must be a multiple"),
        ({"checkpoint_at": (0, 3)}, r"checkpoint_at=\(0, 3\) must be steps, from 1 on"),
        ({"profile_steps": (5, 5)}, "first step and a later one"),
    ],
)
def test_mistakes_of_the_config(fields, message):
    with pytest.raises(UserError, match=message):
        TrainConfig(**fields)
