"""``config.json`` of the supported families, as options of one transformer and back.

A family is what its configs say beyond Llama's. Rotary settings come in two dialects, ``rope_theta`` with ``rope_scaling`` and
``rope_parameters``; both are read and written: readers of the first do not look for the second.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ebm_jax.errors import UserError
from ebm_jax.interop.hugging_face.layouts import Entry, entries
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.nn.blocks import ACTIVATIONS
from ebm_jax.nn.rope import RopeScaling

Json = Mapping[str, Any]
HEADS = {"lm": "ForCausalLM", "score": "ForSequenceClassification"}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published model: options of ours, and what else its config says."""

    family: str
    model: TransformerConfig
    vocab_size: int
    context: int
    """Positions it was made for."""
    head: str = "lm"
    """``lm`` or ``score``."""
    labels: int = 1
    """Outputs of a ``score`` head."""
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None

    def entries(self) -> list[Entry]:
        """All its tensors."""
        return entries(self.model, head=self.head, renamed=FAMILIES[self.family].renamed)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What distinguishes a ``model_type`` from Llama."""

    architecture: str
    read: Callable[[Json], dict[str, Any]] = lambda config: {}
    """Options of ours that its config implies."""
    write: Callable[[TransformerConfig], dict[str, Any]] = lambda model: {}
    """Keys of its own."""
    renamed: dict[str, str] = field(default_factory=dict)


def _llama(config: Json) -> dict[str, Any]:
    bias = bool(config.get("attention_bias", False))
    return {"qkv_bias": bias, "out_bias": bias, "mlp_bias": bool(config.get("mlp_bias", False))}


def _write_llama(model: TransformerConfig) -> dict[str, Any]:
    return {"attention_bias": model.qkv_bias, "mlp_bias": model.mlp_bias}


def _sliding(config: Json) -> dict[str, Any]:
    """Windows by layer, from ``layer_types`` or, in older Qwen configs, the number of the last full layer."""
    window, depth = config.get("sliding_window", 4096), config["num_hidden_layers"]
    kinds = config.get("layer_types")
    if kinds is None:
        full = list(range(min(depth, config.get("max_window_layers", 28))))
    else:
        if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
            raise UserError(
                f"config.json: layer_types {sorted(unknown)} are neither full_attention nor sliding_attention"
            )
        full = [n for n, kind in enumerate(kinds) if kind == "full_attention"]
    if window is None or len(full) == depth:
        return {}
    return {"window": window, "full_layers": tuple(full)}


def _write_sliding(model: TransformerConfig) -> dict[str, Any]:
    kinds = ["full_attention" if window is None else "sliding_attention" for window in model.layer_windows]
    return {"sliding_window": model.window, "layer_types": kinds}


def _qwen_sliding(config: Json) -> dict[str, Any]:
    return _sliding(config if config.get("use_sliding_window") else {**config, "sliding_window": None})


def _write_qwen(model: TransformerConfig) -> dict[str, Any]:
    used = model.window is not None
    return {"use_sliding_window": used, "max_window_layers": len(model.full_layers), **_write_sliding(model)}


def _olmo(config: Json) -> dict[str, Any]:
    if config.get("attention_bias"):
        raise UserError("config.json: attention_bias=true is not supported for this family")
    return {"norm_place": "after", "qk_norm": "all"}


def _olmo3(config: Json) -> dict[str, Any]:
    depth = config["num_hidden_layers"]
    # Without a list, every fourth layer sees all.
    kinds = ["full_attention" if n % 4 == 3 else "sliding_attention" for n in range(depth)]
    return _olmo(config) | _sliding({"layer_types": kinds, **config}) | {"scaled_layers": "full"}


def _write_olmo3(model: TransformerConfig) -> dict[str, Any]:
    plain = {"rope_type": "default", "rope_theta": model.rope_theta}
    each = {"full_attention": _write_rope(model), "sliding_attention": plain}
    return _write_sliding(model) | {"rope_parameters": each}


_OLMO_NORMS = {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_feedforward_layernorm"}

FAMILIES: dict[str, Family] = {
    "llama": Family(architecture="Llama", read=_llama, write=_write_llama),
    "mistral": Family(
        architecture="Mistral",
        read=lambda config: {"window": config.get("sliding_window", 4096)},
        write=lambda model: {"sliding_window": model.window},
    ),
    "qwen2": Family(
        architecture="Qwen2", read=lambda config: {"qkv_bias": True} | _qwen_sliding(config), write=_write_qwen
    ),
    "qwen3": Family(
        architecture="Qwen3",
        read=lambda config: {"qk_norm": "head"} | _qwen3_bias(config) | _qwen_sliding(config),
        write=lambda model: {"attention_bias": model.qkv_bias} | _write_qwen(model),
    ),
    "olmo2": Family(architecture="Olmo2", read=_olmo, renamed=_OLMO_NORMS),
    "olmo3": Family(architecture="Olmo3", read=_olmo3, write=_write_olmo3, renamed=_OLMO_NORMS),
}
"""By ``model_type``."""


def _qwen3_bias(config: Json) -> dict[str, Any]:
    bias = bool(config.get("attention_bias", False))
    return {"qkv_bias": bias, "out_bias": bias}


def read_config(config: Json) -> Published:
    """What ``config.json`` describes; UserError for what is not supported."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"config.json: model_type={family!r} is not supported: {', '.join(FAMILIES)} are")
    activation = config.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise UserError(f"config.json: hidden_act={activation!r} is not one of {', '.join(ACTIVATIONS)}")
    try:
        _check_sizes(config)
        heads, width = config["num_attention_heads"], config["hidden_size"]
        head_width = config.get("head_dim") or (128 if family == "qwen3" else width // heads)
        theta, scaling = _rope(config)
        model = TransformerConfig(
            depth=config["num_hidden_layers"],
            width=width,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_width=head_width,
            hidden=config["intermediate_size"],
            norm_eps=config.get("rms_norm_eps", 1e-6),
            activation=activation,
            rope_theta=theta,
            rope_scaling=scaling,
            tied=bool(config.get("tie_word_embeddings", False)),
            **FAMILIES[family].read(config),
        )
        vocab_size = config["vocab_size"]
    except KeyError as error:
        raise UserError(f"config.json has no {error}") from None
    architecture = (config.get("architectures") or [""])[0] or ""
    eos = config.get("eos_token_id")
    return Published(
        family=family,
        model=model,
        vocab_size=vocab_size,
        context=config.get("max_position_embeddings") or 2048,
        head="score" if architecture.endswith(HEADS["score"]) else "lm",
        labels=_labels(config),
        bos_id=config.get("bos_token_id"),
        eos_ids=() if eos is None else tuple(eos) if isinstance(eos, list) else (eos,),
        pad_id=config.get("pad_token_id"),
    )


def write_config(published: Published, *, dtype: str = "float32") -> dict[str, Any]:
    """The ``config.json`` of a model; UserError where its family cannot say what the model is."""
    family, model = FAMILIES[published.family], published.model
    shape = model.block()
    if model.norm != "rms":
        raise UserError(f"model.norm={model.norm!r} has no place in a Hugging Face config: only rms")
    eos = list(published.eos_ids)
    config: dict[str, Any] = {
        "architectures": [family.architecture + HEADS[published.head]],
        "model_type": published.family,
        "vocab_size": published.vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": model.resolved_depth,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups,
        "head_dim": shape.head_width,
        "hidden_act": model.activation,
        "max_position_embeddings": published.context,
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": _write_rope(model),
        "rope_theta": model.rope_theta,
        "rope_scaling": _write_scaling(model),
        "tie_word_embeddings": model.tied,
        "bos_token_id": published.bos_id,
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        "pad_token_id": published.pad_id,
        "dtype": dtype,
        **family.write(model),
    }
    if published.head == "score":
        config |= {"num_labels": published.labels, "id2label": {str(n): f"LABEL_{n}" for n in range(published.labels)}}
        config["label2id"] = {name: int(n) for n, name in config["id2label"].items()}
    again = read_config(config).model
    if again != _comparable(model, again):
        raise UserError(
            f"a model of family {published.family!r} cannot have these options: {_difference(model, again)}"
        )
    return config


def family_of(model: TransformerConfig) -> str:
    """The first family that can say what the model is."""
    for family in FAMILIES:
        try:
            write_config(Published(family=family, model=model, vocab_size=1, context=1))
        except UserError:
            continue
        return family
    raise UserError(f"no supported family ({', '.join(FAMILIES)}) has this model's options")


def _comparable(model: TransformerConfig, like: TransformerConfig) -> TransformerConfig:
    """``model`` with sizes resolved, and without what no published config says: how it was initialised and is run."""
    shape = model.block()
    silent = ("size", "ffn_multiplier", "init", "init_gain", "embed_std", "attention", "remat", "unroll_layers")
    same: dict[str, Any] = {name: getattr(like, name) for name in silent}
    if model.window is None or model.rope_scaling.kind == "none":
        same["scaled_layers"] = like.scaled_layers
    sizes: dict[str, Any] = {
        "depth": model.resolved_depth,
        "width": shape.width,
        "heads": shape.heads,
        "hidden": shape.hidden,
    }
    return dataclasses.replace(model, kv_heads=shape.groups, head_width=shape.head_width, **sizes, **same)


def _difference(model: TransformerConfig, again: TransformerConfig) -> str:
    ours = _comparable(model, again)
    names = [f.name for f in dataclasses.fields(ours) if getattr(ours, f.name) != getattr(again, f.name)]
    return ", ".join(f"{name}={getattr(ours, name)!r}" for name in names)


def _check_sizes(config: Json) -> None:
    """Refuses sizes that are no positive whole numbers; KeyError where one is missing."""
    needed = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    others = ("num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window")
    sizes = {name: config[name] for name in needed}
    sizes |= {name: config[name] for name in others if config.get(name) is not None}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise UserError(f"config.json: {name}={value!r} is not a positive whole number")


def _labels(config: Json) -> int:
    return config.get("num_labels") or len(config.get("id2label") or {}) or 2


def _rope(config: Json) -> tuple[float, RopeScaling]:
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if "full_attention" in parameters:  # one set for each kind of layer
        full, sliding = parameters["full_attention"], parameters.get("sliding_attention", parameters["full_attention"])
        if sliding.get("rope_theta") != full.get("rope_theta") or sliding.get("rope_type", "default") != "default":
            raise UserError(
                f"config.json: rope_parameters of sliding_attention, {sliding}, are not supported: only plain"
                " frequencies with the theta of full_attention"
            )
        parameters = full
    theta = float(parameters.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    if (share := parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))) != 1.0:
        raise UserError(f"config.json: partial_rotary_factor={share} is not supported, only 1")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind == "default":
        return theta, RopeScaling()
    if kind not in ("linear", "llama3", "yarn"):
        raise UserError(f"config.json: rope_type={kind!r} is not supported: default, linear, llama3 and yarn are")
    if kind == "yarn" and (parameters.get("mscale") or parameters.get("mscale_all_dim")):
        raise UserError("config.json: mscale of yarn is not supported: give attention_factor")
    renamed = {"original_max_position_embeddings": "original_context"}
    known = {f.name for f in dataclasses.fields(RopeScaling)} - {"kind"}
    named = {renamed.get(name, name): value for name, value in parameters.items()}
    given = {name: value for name, value in named.items() if name in known and value is not None}
    given.setdefault("original_context", config.get("max_position_embeddings") or 2048)
    return theta, RopeScaling(kind=kind, **{**given, "factor": parameters["factor"]})


def _write_rope(model: TransformerConfig) -> dict[str, Any]:
    scaling, theta = model.rope_scaling, model.rope_theta
    if scaling.kind == "none":
        return {"rope_type": "default", "rope_theta": theta}
    said: dict[str, Any] = {"rope_type": scaling.kind, "rope_theta": theta, "factor": scaling.factor}
    said["original_max_position_embeddings"] = scaling.original_context
    if scaling.kind == "llama3":
        said |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    if scaling.kind == "yarn":
        said |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow, "truncate": scaling.truncate}
        said |= {} if scaling.attention_factor is None else {"attention_factor": scaling.attention_factor}
    return said


def _write_scaling(model: TransformerConfig) -> dict[str, Any] | None:
    """The same in the first dialect, where the base has a place of its own."""
    said = _write_rope(model)
    return None if model.rope_scaling.kind == "none" else {k: v for k, v in said.items() if k != "rope_theta"}
