"""What ``weights=`` may name: a run's folder, a published model, or a reference checkpoint."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from ebm_jax.data.paths import expand
from ebm_jax.errors import UserError
from ebm_jax.interop.hugging_face.folder import is_model, locate, read_published
from ebm_jax.interop.hugging_face.weights import load_params
from ebm_jax.interop.reference_ebt import STATES, from_reference, layout_of, read_state
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.types import Params

Reader = Callable[[Params], Params]
"""From the shapes, types and shardings of a network's parameters to the parameters."""


def starting_weights(name: str, model: TransformerConfig) -> Path | Reader:
    """The run's folder that ``name`` is, or what reads the parameters of a network of the options ``model``.

    Names are tried as a folder of ours, a folder with a published model (``config.json``), a file (a reference checkpoint), an
    address such as ``gs://bucket/model``, and OWNER/NAME on the Hugging Face hub; folders and files may begin with ``~`` or
    ``$EBM_JAX_DATA``.

    Raises:
      UserError: a published model has other options than ``model``; the message lists what to set. The reader's: it is a
        classifier where a language model is wanted, or the other way round.
    """
    address = "://" in name
    path = Path(name) if address else expand(name)
    # Names on the hub have dots too: Qwen2.5-0.5B.
    file = path.exists() or path.suffix in STATES
    on_hub = not file and not path.is_absolute() and not name.startswith((".", "~", "$")) and name.count("/") == 1
    if path.is_dir() and not is_model(path):
        return path
    if not (address or on_hub or path.is_dir()):
        return partial(_from_reference, path, model)
    folder = locate(name if address or on_hub else str(path))
    published = read_published(folder)
    ours, theirs = _options(model), _options(published.model)
    if wrong := [f"model.{key}={value}" for key, value in theirs.items() if ours.get(key) != value]:
        raise UserError(f"weights={name} are of a model with other options: set {' '.join(wrong)}")
    return partial(_from_published, folder, published)


def _from_published(folder: Path, published: Any, shapes: Params) -> Params:
    if published.head == "score" and "score" not in shapes:
        raise UserError(
            f"{folder} classifies sequences: a run begins with a ...ForCausalLM model, and a reward model goes on from"
            " another with algorithm.weights_of=reward_model"
        )
    if published.head != "score" and "score" in shapes:
        raise UserError(
            f"{folder} is a language model: algorithm.weights_of=reward_model needs a ...ForSequenceClassification one"
        )
    rows = shapes["embed"].shape[0]
    if rows != published.vocab_size:
        raise UserError(
            f"{folder} has {published.vocab_size} tokens and this run {rows}: set data.tokenizer to the model's own,"
            f" and vocab_size={published.vocab_size} where its tables have more rows than the tokenizer has tokens"
        )
    return load_params(folder, published, shapes)


def _from_reference(path: Path, model: TransformerConfig, shapes: Params) -> Params:
    state = read_state(path)
    imported = from_reference(state, layout_of(state, model.block().heads))
    named = lambda tree: {jax.tree_util.keystr(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(tree)}
    theirs, ours = named(imported), named(shapes)
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise UserError(f"{path}: {name} is {theirs.get(name)} there and {ours.get(name)} in this config's model")
    return imported


def _options(model: TransformerConfig) -> dict[str, Any]:
    """What decides a network's shapes and results, sizes resolved."""
    shape = model.block()
    sizes: dict[str, Any] = {
        "width": shape.width,
        "heads": shape.heads,
        "kv_heads": shape.groups,
        "head_width": shape.head_width,
    }
    plain = ("qkv_bias", "out_bias", "mlp_bias", "qk_norm", "norm_place", "window", "full_layers", "norm", "norm_eps",
             "activation", "rope_theta", "tied")  # fmt: skip
    options: dict[str, Any] = {"depth": model.resolved_depth, "hidden": shape.hidden, **sizes}
    options |= {name: getattr(model, name) for name in plain}
    scaling = model.rope_scaling
    options |= {"rope_scaling.kind": scaling.kind}
    if scaling.kind != "none":
        options |= {f"rope_scaling.{name}": value for name, value in vars(scaling).items()}
        options |= {"scaled_layers": model.scaled_layers} if model.window is not None else {}
    return {name: "none" if value is None else value for name, value in options.items()}
