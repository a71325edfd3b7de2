"""A model as a folder that ``transformers`` and other programs load."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp

from ebm_jax.errors import UserError
from ebm_jax.interop.hugging_face.families import Published, write_config
from ebm_jax.interop.hugging_face.folder import TOKENIZER_FILES
from ebm_jax.interop.hugging_face.tensors import SHARD_BYTES, write_tensors
from ebm_jax.interop.hugging_face.weights import tensors_of
from ebm_jax.types import Params


def write_model(
    folder: Path,
    params: Params,
    published: Published,
    *,
    dtype: str = "float32",
    tokenizer: Path | None = None,
    chat_template: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes ``config.json``, the tensors, and copies of the tokenizer's files.

    ``tokenizer`` is its folder, or a file in it, which gets the name that readers look for. ``chat_template`` is a Jinja file
    in place of the one beside it.

    Raises:
      UserError: the folder holds a model already, or the family cannot say what the model is.
    """
    config = write_config(published, dtype=dtype)
    if (folder / "config.json").exists():
        raise UserError(f"{folder} holds a model already: name another folder, or remove it")
    kind = jnp.dtype(dtype)
    write_tensors(folder, ((name, x.astype(kind)) for name, x in tensors_of(params, published)), shard_bytes)
    if tokenizer is not None:
        beside = tokenizer if tokenizer.is_dir() else tokenizer.parent
        for name in TOKENIZER_FILES:
            if (beside / name).is_file():
                shutil.copyfile(beside / name, folder / name)
        if tokenizer.is_file():
            shutil.copyfile(tokenizer, folder / f"tokenizer{tokenizer.suffix}")
    if chat_template is not None:
        shutil.copyfile(chat_template, folder / "chat_template.jinja")
    # Last, so that a folder with a config is whole.
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def random_params(abstract: Params, seed: int = 0, scale: float = 0.02) -> Params:
    """Normal numbers of the given shapes, gains of one: a stand-in for a trained model of any size."""
    leaves, tree = jax.tree.flatten(abstract)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    make = lambda key, leaf: scale * jax.random.normal(key, leaf.shape, leaf.dtype)
    params = jax.tree.unflatten(tree, [make(key, leaf) for key, leaf in zip(keys, leaves, strict=True)])
    gains = lambda path, x: jnp.ones_like(x) if path[-1].key == "scale" or path[-1].key.endswith("_norm") else x
    return jax.tree_util.tree_map_with_path(gains, params)
