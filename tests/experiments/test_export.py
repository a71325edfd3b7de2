"""A trained run goes out under reference names and comes back as the weights of a new run, exactly."""

import jax
import numpy as np
import pytest

from ebm_jax.cli import main as run_cli
from ebm_jax.experiment import open_run
from ebm_jax.interop.hugging_face.families import Published
from ebm_jax.models.transformer import TransformerConfig
from experiments import export, pretrain

SHORT = [
    "train.steps=1",
    "train.eval_every=0",
    "train.checkpoint_every=0",
    "optim.decay_steps=10",
    "optim.warmup_steps=2",
]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lm", "ebt"])
def test_round_trip_through_a_reference_checkpoint(method, tmp_path):
    config = f"configs/smoke/{method}.py"
    settings = [*SHORT, f"data.cache_dir={tmp_path / 'data'}", "mesh.data=-1"]
    assert run_cli(pretrain.main, [config, *settings, f"workdir={tmp_path / 'first'}"]) == 0
    file = tmp_path / "model.safetensors"
    assert run_cli(export.main, [str(tmp_path / "first"), f"out={file}"]) == 0
    # A learning rate too small to move float32 leaves the imported weights as they came.
    again = [
        *settings,
        f"weights={file}",
        "optim.peak_lr=1e-30",
        "optim.weight_decay=0",
        f"workdir={tmp_path / 'second'}",
    ]
    assert run_cli(pretrain.main, [config, *again]) == 0
    for a, b in zip(*(jax.tree.leaves(open_run(tmp_path / name)[1]) for name in ("first", "second")), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_mistakes_are_named(capsys):
    assert run_cli(export.main, ["runs/none"]) == 2
    assert "out=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "tokens", "append_eos", "expected"),
    [
        ({"pad_id": 7}, 9, True, 7),
        (
            {"pad_id": 2, "bos_id": 1},
            9,
            True,
            1,
        ),  # padding with the end-of-text token would hide that texts end with it
        ({"pad_id": 2}, 9, False, 2),
        ({}, 6, True, 6),
        ({}, 9, False, 2),
        ({}, 9, True, 0),
        ({"eos_ids": (0,)}, 9, True, 1),
    ],
)
def test_padding_is_no_end_of_a_text(said, tokens, append_eos, expected):
    settings = {"family": "llama", "model": TransformerConfig(), "vocab_size": 9, "context": 4, "eos_ids": (2,)}
    assert export.padding(Published(**settings | said), tokens, append_eos) == expected
