"""Damaged and foreign checkpoints, keeping the best, other shardings, a full disk."""

import errno
import json
import shutil

import jax
import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.rng import root_key
from ebm_jax.training.checkpoints import FORMAT, Checkpoints
from ebm_jax.training.loop import train
from tests.training.toy import ToyStream, toy_config, toy_program, toy_start

META = {"config": {"seed": 0}, "frozen": None}


@pytest.fixture(scope="module")
def program():
    return toy_program(toy_config())


@pytest.fixture(scope="module")
def state(program):
    return toy_start(program).state


@pytest.fixture(scope="module")
def stored(tmp_path_factory, state):
    """A folder with the steps 1, 2 and 3; ``gain`` tells them apart."""
    folder = tmp_path_factory.mktemp("stored")
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, marked(state, step), data={"position": step}, meta=META)
    return folder


def marked(state, mark):
    return state.replace(params=state.params | {"gain": state.params["gain"] * 0 + mark})


def restore(folder, program, **options):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(program.abstract, **options)


def copy(stored, tmp_path):
    return shutil.copytree(stored, tmp_path / "run")


def files_of(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def test_newest_is_restored(stored, program):
    restored = restore(stored, program)
    assert restored.step == 3 and restored.data == {"position": 3}
    assert restored.meta == {"format": FORMAT, **META}
    np.testing.assert_array_equal(restored.state.params["gain"], 3)


@pytest.mark.slow
def test_any_truncated_file_falls_back_or_changes_nothing(stored, program, tmp_path, caplog):
    fell_back = 0
    for number, name in enumerate(files_of(stored / "3")):
        folder = shutil.copytree(stored, tmp_path / str(number))
        path = folder / "3" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        caplog.clear()
        restored = restore(folder, program)
        np.testing.assert_array_equal(restored.state.params["gain"], restored.step, err_msg=str(name))
        if restored.step == 2:
            fell_back += 1
            assert "cannot read the checkpoint of step 3" in caplog.text
    assert fell_back > 4


@pytest.mark.parametrize("gone", ["params", "training", "meta", "data"])
def test_a_missing_item_falls_back(stored, program, tmp_path, gone):
    folder = copy(stored, tmp_path)
    shutil.rmtree(folder / "3" / gone)
    assert restore(folder, program).step == 2


def test_foreign_checkpoint_falls_back(stored, program, tmp_path, caplog):
    folder = copy(stored, tmp_path)
    (meta,) = [p for p in (folder / "3" / "meta").iterdir() if p.read_bytes().startswith(b"{")]
    meta.write_text(json.dumps({"someone": "else"}))
    assert restore(folder, program).step == 2
    assert "not written by this framework" in caplog.text


def test_none_readable_is_an_error(stored, program, tmp_path):
    folder = copy(stored, tmp_path)
    for step in (1, 2, 3):
        shutil.rmtree(folder / str(step) / "params")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        restore(folder, program)


def test_what_is_unreadable_is_set_aside_so_that_its_step_can_be_written_again(stored, program, tmp_path, state):
    folder = copy(stored, tmp_path)
    shutil.rmtree(folder / "3" / "params")
    with Checkpoints(folder) as checkpoints:
        start = toy_start(program, checkpoints)
        assert (start.source, start.step) == ("resume", 2)
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(3, marked(state, 30), data={}, meta=META)
    assert (folder / "3.unreadable").is_dir()
    np.testing.assert_array_equal(restore(folder, program).state.params["gain"], 30)


def test_an_unfinished_write_is_not_a_checkpoint(stored, program, tmp_path):
    folder = copy(stored, tmp_path)
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
    assert restore(folder, program).step == 2


def test_empty_folder_has_none(program, tmp_path):
    assert restore(tmp_path / "new", program) is None
    with pytest.raises(UserError, match="not a folder"):
        Checkpoints(tmp_path / "other", read_only=True)


def test_best_is_kept_besides_the_latest(state, tmp_path):
    with Checkpoints(tmp_path, keep=1, best_metric="nll", best_mode="min") as checkpoints:
        for step, value in enumerate([3.0, 1.0, float("nan"), 2.0]):
            checkpoints.save(step, state, data={}, meta=META, metrics={"nll": value, "other": 0.0})
        checkpoints.save(9, state, data={}, meta=META)
        checkpoints.wait()
        assert checkpoints.steps() == [1, 9]
        assert checkpoints.best_step() == 1
        with pytest.raises(UserError, match=r"keep_best='nll' is not a metric.*accuracy"):
            checkpoints.save(10, state, data={}, meta=META, metrics={"accuracy": 0.5})


def test_restores_onto_another_mesh(stored, state):
    config = toy_config()
    other = toy_program(config, MeshConfig(fsdp=4, tensor=2, rules="fsdp_tp"), devices=8)
    restored = restore(stored, other, step=1)
    assert restored.state.params["up"].sharding == other.abstract.params["up"].sharding
    np.testing.assert_array_equal(restored.state.params["up"], state.params["up"])


def test_shapes_that_differ_are_named(stored, program):
    abstract = program.abstract
    wide = jax.ShapeDtypeStruct((99, 8), np.float32, sharding=abstract.params["embed"].sharding)
    changed = abstract.replace(params={**abstract.params, "embed": wide})
    with pytest.raises(UserError, match=r"embed is \(16, 8\), not \(99, 8\)"):
        restore(stored, type("P", (), {"abstract": changed}))


def test_parameters_alone(stored, program):
    with Checkpoints(stored, read_only=True) as checkpoints:
        step, params = checkpoints.restore_params(program.abstract.params)
    assert step == 3
    np.testing.assert_array_equal(params["gain"], 3)


def test_full_disk_is_said_and_the_checkpoint_before_is_intact(stored, program, tmp_path, state, monkeypatch):
    folder = copy(stored, tmp_path)
    with Checkpoints(folder) as checkpoints:

        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(checkpoints._manager, "save", full)
        with pytest.raises(UserError, match=r"disk is full.*step 3 is intact"):
            checkpoints.save(4, state, data={}, meta=META)
    assert restore(folder, program).step == 3


@pytest.mark.slow
def test_saving_does_not_share_memory_with_the_next_step(program, tmp_path):
    """The step donates its state while a checkpoint of it is still being written."""
    config = toy_config(steps=6, checkpoint_every=1, keep=6)
    seen = {}

    class Kept(Checkpoints):
        def save(self, step, state, **options):
            seen[step] = jax.tree.map(np.copy, jax.device_get(state))
            super().save(step, state, **options)

    with Kept(tmp_path, keep=6) as checkpoints:
        train(
            program,
            toy_start(program),
            stream=ToyStream(),
            config=config,
            key=root_key(0),
            checkpoints=checkpoints,
        )
        for step in checkpoints.steps():
            restored = checkpoints.restore(program.abstract, step=step).state
            jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), seen[step])
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]
