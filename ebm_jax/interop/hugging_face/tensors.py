"""Safetensors files of a model, read tensor by tensor into place and written in shards."""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ebm_jax.errors import UserError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth", "model.pt")
SHARD_BYTES = 5 * 10**9
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class TensorFiles:
    """The tensors of a folder by name; files are mapped into memory, and a tensor is read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises ``UserError`` where there are no safetensors, or files that the index names are missing or broken."""
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError:
            raise UserError('reading .safetensors needs the hf extra: pip install "ebm_jax[hf]"') from None
        self._folder, self._stack = folder, ExitStack()
        self._files: dict[str, Any] = {}
        for path in _files(folder):
            try:
                file = self._stack.enter_context(safe_open(path, framework="np"))
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} cannot be read as safetensors: {error}") from None
            self._files |= dict.fromkeys(file.keys(), file)

    def __enter__(self) -> "TensorFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def names(self) -> set[str]:
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        """The tensor; UserError for types that are not floating point."""
        kind = self._files[name].get_slice(name).get_dtype()
        if kind not in _TYPES:
            raise UserError(f"{self._folder}: {name} is stored as {kind}; {', '.join(_TYPES)} can be read")
        return self._files[name].get_tensor(name)


def _files(folder: Path) -> list[Path]:
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        if found := [name for name in PICKLES if (folder / name).exists()]:
            raise UserError(
                f"{folder} holds {found[0]}, a pickle file, which could run any code: convert it with"
                " transformers (from_pretrained, then save_pretrained with safe_serialization=True)"
            )
        raise UserError(
            f"{folder} has neither {WHOLE} nor {INDEX}; weights in pickle files are not fetched: convert them"
        )
    try:
        names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{folder / INDEX} is not an index of safetensors: {error!r}") from None
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names")
    return [folder / name for name in names]


def write_tensors(folder: Path, tensors: Iterable[tuple[str, np.ndarray]], shard_bytes: int = SHARD_BYTES) -> None:
    """Writes one file, or numbered shards with an index; no more than one shard is in memory at a time."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    held, sizes, parts = dict[str, np.ndarray](), dict[str, str](), 0
    total = 0

    def flush() -> None:
        nonlocal held, parts
        parts += 1
        name = f"part-{parts}.safetensors"
        save_file(held, folder / name, metadata={"format": "pt"})
        sizes.update(dict.fromkeys(held, name))
        held = {}

    for name, tensor in tensors:
        if held and sum(x.nbytes for x in held.values()) + tensor.nbytes > shard_bytes:
            flush()
        held[name] = np.ascontiguousarray(tensor).reshape(tensor.shape)
        total += tensor.nbytes
    flush()
    _name_parts(folder, sizes, parts, total)


def _name_parts(folder: Path, files: Mapping[str, str], parts: int, total: int) -> None:
    """Gives the parts the names that readers expect, now that their number is known."""
    if parts == 1:
        (folder / "part-1.safetensors").replace(folder / WHOLE)
        (folder / INDEX).unlink(missing_ok=True)
        return
    final = {f"part-{n}.safetensors": f"model-{n:05}-of-{parts:05}.safetensors" for n in range(1, parts + 1)}
    for part, name in final.items():
        (folder / part).replace(folder / name)
    index = {"metadata": {"total_size": total}, "weight_map": {name: final[part] for name, part in files.items()}}
    (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True), encoding="utf-8")
    (folder / WHOLE).unlink(missing_ok=True)
