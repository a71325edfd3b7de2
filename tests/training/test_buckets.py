"""Checkpoints in a bucket: written, resumed from, passed over where they are damaged, read by other commands."""

import contextlib
import dataclasses
import importlib
from pathlib import Path

import jax
import numpy as np
import pytest

from ebm_jax.cli import load_config
from ebm_jax.experiment import ExperimentConfig, open_run, run_training
from ebm_jax.overrides import override
from ebm_jax.training.checkpoints import checkpoint_place

BUCKET, PORT = "bucket-one", 9023


@pytest.fixture
def bucket(monkeypatch):
    """An address that a server in this process stores; both storage libraries are told of it."""
    pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    address = f"http://localhost:{PORT}"
    for name in ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL"):
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    objects = importlib.import_module("gcp_storage_emulator.handlers.objects")
    plain = objects.download

    def download(request, response, storage, *rest):
        """As Cloud Storage does: TensorStore refuses to write again what it read without a generation."""
        with contextlib.suppress(objects.NotFound):
            found = storage.get_file_obj(request.params["bucket_name"], request.params["object_id"])
            response["x-goog-generation"] = found["generation"]
        return plain(request, response, storage, *rest)

    monkeypatch.setattr(objects, "download", download)
    server = emulator.create_server("localhost", PORT, in_memory=True, default_bucket=BUCKET)
    server.start()
    yield f"gs://{BUCKET}/checkpoints"
    server.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_whose_checkpoints_lie_in_a_bucket(bucket, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    base = load_config("configs/smoke/lm.py", ExperimentConfig)
    keys = ["train.steps=4", "train.checkpoint_every=2", "train.eval_every=0"]
    config = override(base, [*keys, f"train.checkpoint_root={bucket}"])
    workdir = tmp_path / "run"
    run_training(config, workdir)
    assert not (workdir / "checkpoints").exists()
    place = checkpoint_place(workdir, bucket)
    assert str(place).startswith(bucket) and sorted(entry.name for entry in place.iterdir()) == ["2", "4"]
    _, first, step = open_run(workdir)
    assert step == 4

    damaged = place / "4" / "params" / "_METADATA"
    damaged.write_text("not what was written")
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=6))
    assert run_training(longer, workdir).step == 6
    _, again, _ = open_run(workdir, step=4)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_workdir_has_a_place_of_its_own(tmp_path):
    assert checkpoint_place(Path("runs/a")) == Path("runs/a/checkpoints")
    assert str(checkpoint_place(Path("runs/a"), "gs://bucket/x")) == "gs://bucket/x/runs/a/checkpoints"
    assert str(checkpoint_place(Path("/runs/a/seed=1"), "/disk")) == "/disk/runs/a/seed=1/checkpoints"
    assert str(checkpoint_place(Path("../runs/a"), "/disk")) == "/disk/runs/a/checkpoints"
