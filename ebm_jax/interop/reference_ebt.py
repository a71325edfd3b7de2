"""State dicts of the EBT reference implementation, as our parameters and back.

One table (``_entries``) names each tensor on both sides with its layout: the reference stores linear maps as
``[out, in]``, ours are ``[in, out]`` with heads apart and layers stacked.
"""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ebm_jax.errors import UserError
from ebm_jax.types import Params

State = Mapping[str, np.ndarray]
Path_ = tuple[str, ...]
PICKLED = (".ckpt", ".pt", ".pth")
STATES = (".npz", ".safetensors", *PICKLED)
"""Suffixes of what ``read_state`` reads."""


class Entry(NamedTuple):
    """One tensor: its reference name (``{}`` = layer number), our path, and the two changes of layout."""

    name: str
    path: Path_
    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _entries(heads: int, network: Path_, conditioning: str, tied: bool, norm: str, is_lm: bool) -> list[Entry]:
    transpose = np.transpose

    def split(parts: int):
        """[parts * D, D_in] <-> [D_in, parts, D]."""
        return (lambda w: w.T.reshape(w.shape[1], parts, -1)), (lambda w: w.reshape(w.shape[0], -1).T)

    into = split(heads)
    out = (lambda w: w.T.reshape(heads, -1, w.shape[0])), (lambda w: w.reshape(-1, w.shape[-1]).T)
    flat = (lambda w: transpose(w)), (lambda w: transpose(w))
    keep = (_same, _same)
    row = (lambda w: w[0]), (lambda w: w[None])
    scalar = (lambda w: w.reshape(())), (lambda w: w.reshape(1))
    block, layer = (*network, "stack", "blocks"), "transformer.layers.{}."

    entries = [Entry("embeddings.weight", (*network, "embed"), *keep)]
    for theirs, ours_name, layout in (
        ("attention.wq.weight", "query", into),
        ("attention.wk.weight", "key", into),
        ("attention.wv.weight", "value", into),
        ("attention.wo.weight", "out", out),
        ("feed_forward.w1.weight", "gate", flat),
        ("feed_forward.w2.weight", "down", flat),
        ("feed_forward.w3.weight", "up", flat),
    ):
        entries.append(Entry(layer + theirs, (*block, ours_name), *layout))
    norms = [(layer + "attention_norm", (*block, "attention_norm")), (layer + "ffn_norm", (*block, "mlp_norm"))]
    norms.append(("transformer.norm", (*network, "final_norm")))
    parts = {"rms": {"weight": "scale"}, "layer": {"weight": "scale", "bias": "bias"}, "none": {}}
    parts["dyt"] = {"weight": "scale", "bias": "bias", "alpha": "alpha"}
    for theirs, ours in norms:
        # Dynamic tanh keeps its one alpha as a vector of length 1.
        of = lambda name: scalar if name == "alpha" else keep
        entries += [Entry(f"{theirs}.{a}", (*ours, b), *of(a)) for a, b in parts[norm].items()]
    if is_lm:
        return [*entries, Entry("output.weight", (*network, "head"), *flat)]

    if not tied:
        entries.append(Entry("vocab_to_embed.weight", (*network, "candidate_embed"), *flat))
    if conditioning != "default":
        entries.append(Entry("transformer.time_embeddings.weight", (*network, "step_embed"), *keep))
    if conditioning.startswith("adaln"):
        six, two = split(6), split(2)
        stack6 = (lambda b: b.reshape(6, -1)), (lambda b: b.reshape(-1))
        stack2 = (lambda b: b.reshape(2, -1)), (lambda b: b.reshape(-1))
        final = "transformer.final_layer."
        entries += [
            Entry(layer + "adaLN_modulation.1.weight", (*block, "modulation_kernel"), *six),
            Entry(layer + "adaLN_modulation.1.bias", (*block, "modulation_bias"), *stack6),
            Entry(final + "adaLN_modulation.1.weight", (*network, "final_kernel"), *two),
            Entry(final + "adaLN_modulation.1.bias", (*network, "final_bias"), *stack2),
            Entry(final + "linear.weight", (*network, "head"), *row),
        ]
    else:
        entries.append(Entry("transformer.final_layer.weight", (*network, "head"), *row))
    entries.append(Entry("alpha", ("step_size",), *keep))
    entries.append(Entry("langevin_dynamics_noise_std", ("noise",), *keep))
    return entries


class Layout(NamedTuple):
    """What the two sides must agree on to name and shape every tensor."""

    depth: int
    heads: int
    conditioning: str = "default"
    tied: bool = False
    norm: str = "rms"
    is_lm: bool = False

    def entries(self) -> list[Entry]:
        network = () if self.is_lm else ("network",)
        return _entries(self.heads, network, self.conditioning, self.tied, self.norm, self.is_lm)


def layout_of(state: State, heads: int) -> Layout:
    """Reads the layout off the tensors' names; the number of heads is not stored in them."""
    numbers = (name.split(".")[2] for name in state if name.startswith("transformer.layers."))
    layers = {int(number) for number in numbers if number.isdigit()}
    if not layers or "embeddings.weight" not in state:
        raise UserError(
            f"not an EBT reference checkpoint: no embeddings and transformer.layers among {sorted(state)[:5]}"
        )
    is_lm = "output.weight" in state
    adaln = "transformer.layers.0.adaLN_modulation.1.weight" in state
    conditioning = "adaln" if adaln else "time_embed" if "transformer.time_embeddings.weight" in state else "default"
    norms = {"transformer.norm.alpha": "dyt", "transformer.norm.bias": "layer", "transformer.norm.weight": "rms"}
    return Layout(
        depth=max(layers) + 1,
        heads=heads,
        conditioning=conditioning,
        tied="vocab_to_embed.weight" not in state and not is_lm,
        norm=next((kind for name, kind in norms.items() if name in state), "none"),
        is_lm=is_lm,
    )


def from_reference(state: State, layout: Layout) -> Params:
    """Our parameter tree from a reference state dict; every tensor must be used and present."""
    params: dict = {}
    used = set()
    for entry in layout.entries():
        names = [entry.name.format(i) for i in range(layout.depth)] if "{}" in entry.name else [entry.name]
        if missing := [n for n in names if n not in state]:
            raise UserError(f"the checkpoint lacks {missing[0]}: it does not match {layout}")
        try:
            arrays = [entry.ours(np.asarray(state[n])) for n in names]
            value = np.stack(arrays) if "{}" in entry.name else arrays[0]
        except (ValueError, IndexError):
            found = ", ".join(str(np.shape(state[n])) for n in names)
            raise UserError(f"the checkpoint's {entry.name} has shape {found}, which does not fit {layout}") from None
        used.update(names)
        _put(params, entry.path, value)
    if layout.norm == "none":
        # A norm without parameters is an empty node of our tree.
        network = params if layout.is_lm else params["network"]
        network["stack"]["blocks"] |= {"attention_norm": {}, "mlp_norm": {}}
        network["final_norm"] = {}
    if extra := sorted(set(state) - used):
        raise UserError(f"the checkpoint holds tensors that this model does not have: {', '.join(extra[:5])}")
    return params


def to_reference(params: Params, layout: Layout) -> dict[str, np.ndarray]:
    """The reference state dict of our parameters (or of a gradient with their structure)."""
    state = {}
    for entry in layout.entries():
        value = np.asarray(_get(params, entry.path))
        if "{}" in entry.name:
            state.update({entry.name.format(i): entry.theirs(layer) for i, layer in enumerate(value)})
        else:
            state[entry.name] = entry.theirs(value)
    return state


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Reads ``.npz``, ``.safetensors``, or a Lightning ``.ckpt`` / ``.pt`` (weights only, needs torch)."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"no checkpoint at {path}")
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
                return {_plain(k): arrays[k] for k in arrays.files}
        except (ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a .npz file of plain arrays: {error}") from None
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import load_file
        except ImportError:
            raise UserError('reading .safetensors needs the hf extra: pip install "ebm_jax[hf]"') from None
        try:
            return {_plain(k): v for k, v in load_file(str(path)).items()}
        except SafetensorError as error:
            raise UserError(f"{path} is not a .safetensors file: {error}") from None
    if path.suffix in PICKLED:
        return _read_torch(path)
    raise UserError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; use .npz, .safetensors or .ckpt")


def write_state(path: str | Path, state: State) -> None:
    """Writes a reference-named state dict as ``.npz`` or ``.safetensors``."""
    path = Path(path)
    if path.suffix == ".npz":
        np.savez(path, **dict(state))  # type: ignore[arg-type]
    elif path.suffix == ".safetensors":
        try:
            from safetensors.numpy import save_file
        except ImportError:
            raise UserError('writing .safetensors needs the hf extra: pip install "ebm_jax[hf]"') from None
        save_file({k: np.array(v, order="C") for k, v in state.items()}, str(path))
    else:
        raise UserError(f"{path}: cannot write {path.suffix or 'a file without suffix'}; use .npz or .safetensors")


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError('reading .ckpt needs the peers extra: pip install "ebm_jax[peers]"') from None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several unrelated types for a file it does not trust or cannot parse
        raise UserError(f"{path} cannot be read with weights only ({type(error).__name__}): {error}") from None
    tensors = stored.get("state_dict", stored) if isinstance(stored, Mapping) else None
    if not isinstance(tensors, Mapping):
        raise UserError(f"{path} holds a {type(stored).__name__} and no state dict")
    return {_plain(k): v.float().numpy() for k, v in tensors.items() if hasattr(v, "numpy")}


def _plain(name: str) -> str:
    """A name without the wrappers that Lightning and ``torch.compile`` put in front."""
    for prefix in ("model.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name


def _put(tree: dict, path: Path_, value: np.ndarray) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _get(tree: Params, path: Path_) -> np.ndarray:
    for key in path:
        tree = tree[key]
    return tree
