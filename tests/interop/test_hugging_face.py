"""Published checkpoints: sharded files and sharded parameters, and what is refused."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from ebm_jax.errors import UserError
from ebm_jax.interop.hugging_face.export import write_model
from ebm_jax.interop.hugging_face.families import FAMILIES, Published, family_of, read_config, write_config
from ebm_jax.interop.hugging_face.folder import locate, read_published
from ebm_jax.interop.hugging_face.tensors import INDEX, WHOLE, TensorFiles
from ebm_jax.interop.hugging_face.weights import load_params
from ebm_jax.models.lm import TransformerLM, parameter_shapes
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.mesh import MeshConfig, make_mesh
from ebm_jax.parallel.rules import get_rules, placed, unbox
from ebm_jax.precision import Precision

pytest.importorskip("safetensors")
GOLDEN = Path(__file__).parents[1] / "parity" / "golden"


def shapes(published, **options):
    return parameter_shapes(TransformerLM(published.model, published.vocab_size, **options))


def load(folder, **options):
    published = read_published(folder)
    return load_params(folder, published, unbox(shapes(published, **options)))


@pytest.fixture
def folder(tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(GOLDEN / "qwen3", tmp_path / "model"))


def change(folder, **entries):
    config = json.loads((folder / "config.json").read_text()) | entries
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["olmo3_yarn", "llama_biases"])
def test_parameters_lie_in_their_shardings(name):
    folder = GOLDEN / name
    published, rules = read_published(folder), get_rules("fsdp_tp")
    mesh = make_mesh(MeshConfig(fsdp=2, tensor=2, rules="fsdp_tp"), jax.devices()[:8])
    wanted = placed(shapes(published), mesh, rules)
    sharded = load_params(folder, published, wanted)
    jax.tree.map(lambda x, like: x.sharding == like.sharding or pytest.fail(str(x.sharding)), sharded, wanted)
    assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(sharded))
    jax.tree.map(np.testing.assert_array_equal, sharded, load(folder))


def test_layers_apart_are_layers_stacked(folder):
    stacked, apart = load(folder), load(folder, separate_layers=True)
    for n in range(2):
        jax.tree.map(
            lambda a, b, n=n: np.testing.assert_array_equal(a[n], b),
            stacked["stack"]["blocks"],
            apart["stack"][f"block_{n}"],
        )


def test_numbered_shards_and_narrow_types_come_back(tmp_path):
    published = read_published(GOLDEN / "qwen3")
    params = load(GOLDEN / "qwen3", precision=Precision(param="bfloat16"))
    assert params["embed"].dtype == jnp.bfloat16
    write_model(tmp_path / "out", params, published, dtype="bfloat16", shard_bytes=4000)
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert len(set(index["weight_map"].values())) > 2 and not (tmp_path / "out" / WHOLE).exists()
    with TensorFiles(tmp_path / "out") as files:
        assert files.read("model.norm.weight").dtype == ml_dtypes.bfloat16
    again = load(tmp_path / "out", precision=Precision(param="bfloat16"))
    jax.tree.map(np.testing.assert_array_equal, again, params)
    with pytest.raises(UserError, match="holds a model already"):
        write_model(tmp_path / "out", params, published)


def test_a_tokenizer_gets_the_name_that_readers_look_for(tmp_path):
    (tmp_path / "20B_tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chats.jinja").write_text("{{ messages }}")
    files = {"tokenizer": tmp_path / "20B_tokenizer.json", "chat_template": tmp_path / "chats.jinja"}
    write_model(tmp_path / "out", load(GOLDEN / "qwen3"), read_published(GOLDEN / "qwen3"), **files)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} < written


def test_tensors_that_do_not_fit_are_named(folder):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / WHOLE)
    norm = tensors.pop("model.norm.weight")
    save_file(tensors | {"model.extra.weight": norm}, folder / WHOLE)
    with pytest.raises(UserError, match=r"lacks model.norm.weight; it has, .* model.extra.weight"):
        load(folder)
    save_file(tensors | {"model.norm.weight": np.ones(5, np.float32)}, folder / WHOLE)
    with pytest.raises(UserError, match=r"model.norm.weight is \[5\] instead of \[24\]"):
        load(folder)
    save_file(tensors | {"model.norm.weight": np.ones(24, np.int32)}, folder / WHOLE)
    with pytest.raises(UserError, match=r"model\.norm\.weight is stored as I32"):
        load(folder)


def test_files_that_cannot_be_read_are_named(folder):
    (folder / WHOLE).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load(folder)
    (folder / WHOLE).unlink()
    with pytest.raises(UserError, match=r"has neither model\.safetensors nor"):
        load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"pytorch_model.bin, a pickle file, .* convert it"):
        load(folder)
    (folder / INDEX).write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(UserError, match=r"lacks model-00001-of-00002\.safetensors"):
        load(folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"model_type": "mamba"},
            "model_type='mamba' is not supported: llama, mistral, qwen2, qwen3, olmo2, olmo3 are",
        ),
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu' is not one of"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1.0}}, "rope_type='longrope' is not supported"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5 is not supported"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "config.json has no 'factor'"),
        ({"hidden_size": None}, "hidden_size=None is not a positive whole number"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers='2' is not a positive whole number"),
        ({"layer_types": ["linear_attention"] * 2}, "layer_types .*linear_attention"),
    ],
)
def test_configs_that_are_not_supported_say_so(folder, entries, message):
    change(folder, **entries)
    with pytest.raises(UserError, match=message):
        read_published(folder)


def test_older_configs_say_the_same_in_other_words():
    base = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 7, "hidden_size": 8,
        "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
    }  # fmt: skip
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    new = base | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5} | scaling}
    old = base | {"rope_theta": 5e5, "rope_scaling": {"type": "llama3"} | scaling}
    assert read_config(new) == read_config(old)
    assert read_config(base).model.rope_theta == 10_000.0
    assert (
        read_config(base | {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 4}).model.window
        is None
    )
    windows = read_config(
        base | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    ).model.layer_windows
    assert windows == (None, 4)
    # What a config leaves out is what its family has: windows unless told otherwise in Mistral, none in Qwen.
    assert read_config(base | {"model_type": "qwen2", "sliding_window": 4}).model.window is None
    assert read_config(base | {"model_type": "mistral"}).model.window == 4096
    assert read_config(base | {"model_type": "mistral", "sliding_window": None}).model.window is None


@pytest.mark.parametrize("name", ["llama3_tied", "olmo3_yarn", "qwen3"])
def test_older_readers_find_all_they_look_for(name):
    published = read_published(GOLDEN / name)
    config = write_config(published)
    del config["rope_parameters"]
    assert read_config(config) == published


def test_every_family_says_what_it_is():
    base = TransformerConfig(width=8, depth=4, heads=2, hidden=6)
    models = {
        "llama": base,
        "mistral": TransformerConfig(width=8, depth=4, heads=2, hidden=6, window=3),
        "qwen2": TransformerConfig(width=8, depth=4, heads=2, hidden=6, qkv_bias=True),
        "qwen3": TransformerConfig(width=8, depth=4, heads=2, hidden=6, qk_norm="head", head_width=6),
        "olmo2": TransformerConfig(width=8, depth=4, heads=2, hidden=6, qk_norm="all", norm_place="after"),
        "olmo3": TransformerConfig(
            width=8, depth=4, heads=2, hidden=6, qk_norm="all", norm_place="after", window=3, full_layers=(3,),
            scaled_layers="full",
        ),
    }  # fmt: skip
    assert set(models) == set(FAMILIES)
    for family, model in models.items():
        assert family_of(model) == family
    with pytest.raises(UserError, match="no supported family"):
        family_of(TransformerConfig(width=8, heads=2, mlp_bias=True, qk_norm="head"))
    with pytest.raises(UserError, match="only rms"):
        write_config(Published(family="llama", model=TransformerConfig(norm="layer"), vocab_size=1, context=1))
    with pytest.raises(UserError, match="qk_norm='head'"):
        write_config(Published(family="llama", model=models["qwen3"], vocab_size=1, context=1))


def test_models_that_are_nowhere(tmp_path):
    with pytest.raises(UserError, match="is no folder; a model is"):
        locate(str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        read_published(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="holds list, and an object is expected"):
        read_published(tmp_path)


def test_a_model_of_the_hub_is_fetched_without_pickles(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def fetch(name, allow_patterns, ignore_patterns):
        if name == "owner/none":
            raise OSError("no such model\nand much more")
        names = ["config.json", "model-00001-of-00002.safetensors", "pytorch_model.bin", "modeling.py"]
        twice = ["consolidated.safetensors", "original/params.json", "onnx/model.safetensors"]
        asked[name] = list(
            hub.utils.filter_repo_objects(names + twice, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        )
        return str(GOLDEN / "qwen3")

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert locate("owner/model") == GOLDEN / "qwen3"
    assert asked["owner/model"] == ["config.json", "model-00001-of-00002.safetensors"]
    with pytest.raises(UserError, match=r"owner/none is no folder here, .* does not give it: no such model$"):
        locate("owner/none")


def test_a_model_at_an_address_is_copied_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_JAX_CACHE", str(tmp_path / "cache"))
    address = f"file://{GOLDEN / 'qwen3'}"
    folder = locate(address)
    assert folder.is_relative_to(tmp_path) and read_published(folder) == read_published(GOLDEN / "qwen3")
    assert not (folder / "golden.npz").exists() and locate(address) == folder
    with pytest.raises(UserError, match="holds no model"):
        locate(f"file://{tmp_path / 'empty'}")


def test_a_model_that_two_processes_copy_is_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_JAX_CACHE", str(tmp_path / "cache"))
    address, rename = f"file://{GOLDEN / 'qwen3'}", Path.rename

    def late(path, target):
        shutil.copytree(path, target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    assert read_published(locate(address)) == read_published(GOLDEN / "qwen3")
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir()] == [locate(address).name]
    monkeypatch.setenv("EBM_JAX_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(Path, "rename", lambda *paths: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(UserError, match=r"cannot be copied to .*no space left"):
        locate(address)


def test_a_model_goes_to_transformers_and_comes_back(tmp_path):
    """With the ``peers`` extra: what we write loads there, and says the same."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    for name in sorted(path.name for path in GOLDEN.iterdir()):
        published = read_published(GOLDEN / name)
        if published.head != "lm":
            continue
        write_model(tmp_path / name, load(GOLDEN / name), published)
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, attn_implementation="eager").eval()
        with np.load(GOLDEN / name / "golden.npz") as golden, torch.no_grad():
            logits = model(torch.tensor(golden["ids"])).logits.numpy()
            np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-5 * np.abs(logits).max())
