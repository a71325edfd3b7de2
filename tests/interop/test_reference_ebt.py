"""Checkpoints of the reference cross over and back without a changed bit; what does not fit is named."""

import itertools

import jax
import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.interop.reference_ebt import Layout, from_reference, layout_of, read_state, to_reference, write_state
from ebm_jax.precision import Precision
from tests import tiny
from tests.tiny import DEPTH, HEADS, VOCAB, WIDTH

NORMS = ("rms", "layer", "dyt", "none")
LAYOUTS = [
    Layout(DEPTH, HEADS, conditioning, tied, norm)
    for conditioning, tied, norm in itertools.chain(
        itertools.product(("default", "time_embed", "adaln"), (False, True), ("rms",)),
        itertools.product(("time_embed",), (False,), NORMS[1:]),
    )
] + [Layout(DEPTH, HEADS, is_lm=True), Layout(DEPTH, HEADS, norm="layer", is_lm=True)]


def shapes_of(layout):
    """Shapes of the model of that layout, from the model itself."""
    model = {"norm": layout.norm}
    if layout.is_lm:
        return tiny.shapes(tiny.lm(model=model, precision=Precision())).params
    algorithm = tiny.ebt(conditioning=layout.conditioning, tied=layout.tied, model=model, precision=Precision())
    return tiny.shapes(algorithm).params


def state_of(layout, seed=0):
    """A reference state dict with every number different."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes_of(layout))
    return to_reference(params, layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_there_and_back(layout):
    state = state_of(layout)
    params = from_reference(state, layout)
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda s: s.shape, shapes_of(layout))
    again = to_reference(params, layout)
    assert set(again) == set(state)
    for name in state:
        np.testing.assert_array_equal(again[name], state[name], err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_layout_is_read_off_the_names(layout):
    found = layout_of(state_of(layout), HEADS)
    assert found == layout


def test_linear_maps_are_transposed_and_heads_split():
    layout = Layout(DEPTH, HEADS)
    state = state_of(layout)
    network = from_reference(state, layout)["network"]
    x = np.random.default_rng(1).standard_normal(WIDTH)
    query = np.einsum("d,dhc->hc", x, network["stack"]["blocks"]["query"][1]).ravel()
    np.testing.assert_allclose(query, state["transformer.layers.1.attention.wq.weight"] @ x, rtol=1e-6)
    mixed = x.reshape(HEADS, -1)
    out = np.einsum("hc,hcd->d", mixed, network["stack"]["blocks"]["out"][0])
    np.testing.assert_allclose(out, state["transformer.layers.0.attention.wo.weight"] @ x, rtol=1e-6)
    p = np.random.default_rng(2).random(VOCAB)
    np.testing.assert_allclose(p @ network["candidate_embed"], state["vocab_to_embed.weight"] @ p, rtol=1e-6)


def test_modulation_is_split_into_its_six_parts():
    layout = Layout(DEPTH, HEADS, "adaln")
    state = state_of(layout)
    blocks = from_reference(state, layout)["network"]["stack"]["blocks"]
    c = np.random.default_rng(1).standard_normal(WIDTH)
    name = "transformer.layers.1.adaLN_modulation.1"
    expected = (state[f"{name}.weight"] @ c + state[f"{name}.bias"]).reshape(6, WIDTH)
    ours = np.einsum("d,dmk->mk", c, blocks["modulation_kernel"][1]) + blocks["modulation_bias"][1]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files(tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    state = state_of(Layout(DEPTH, HEADS, "time_embed"))
    write_state(tmp_path / f"model{suffix}", state)
    again = read_state(tmp_path / f"model{suffix}")
    assert set(again) == set(state)
    for name in state:
        np.testing.assert_array_equal(again[name], state[name], err_msg=name)


def test_wrappers_are_taken_off_names(tmp_path):
    np.savez(tmp_path / "wrapped.npz", **{"model._orig_mod.alpha": np.ones(()), "model.embeddings.weight": np.ones(2)})
    assert set(read_state(tmp_path / "wrapped.npz")) == {"alpha", "embeddings.weight"}


def test_a_missing_tensor_is_named():
    layout = Layout(DEPTH, HEADS)
    state = state_of(layout)
    del state["transformer.layers.1.attention.wk.weight"]
    with pytest.raises(UserError, match=r"lacks transformer\.layers\.1\.attention\.wk\.weight"):
        from_reference(state, layout)


def test_an_extra_tensor_is_named():
    layout = Layout(DEPTH, HEADS)
    with pytest.raises(UserError, match=r"does not have: replay\.weight"):
        from_reference(state_of(layout) | {"replay.weight": np.ones(2)}, layout)


def test_shapes_that_do_not_fit_are_named():
    state = state_of(Layout(DEPTH, HEADS))
    with pytest.raises(UserError, match=r"attention\.wq\.weight has shape \(8, 8\), \(8, 8\), which does not fit"):
        from_reference(state, layout_of(state, heads=3))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not an archive of arrays", b"PK\x03\x04 cut short"])
def test_a_broken_file_is_named(tmp_path, suffix, content):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"broken\\{suffix} is not a"):
        read_state(path)


def test_pickled_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "objects.npz", weights=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"objects\.npz is not a \.npz file of plain arrays"):
        read_state(tmp_path / "objects.npz")


def test_a_bare_array_is_not_a_checkpoint(tmp_path):
    with open(tmp_path / "bare.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(UserError, match=r"bare\.npz is not"):
        read_state(tmp_path / "bare.npz")


def test_a_checkpoint_of_something_else_is_refused():
    with pytest.raises(UserError, match="not an EBT reference checkpoint"):
        layout_of({"wte.weight": np.ones((3, 2)), "transformer.layers.norm": np.ones(2)}, heads=2)


def test_unreadable_paths_are_named(tmp_path):
    with pytest.raises(UserError, match="no checkpoint at"):
        read_state(tmp_path / "absent.npz")
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot read \.bin"):
        read_state(tmp_path / "model.bin")
    with pytest.raises(UserError, match=r"cannot write \.bin"):
        write_state(tmp_path / "model.bin", {})
