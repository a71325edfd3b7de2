"""A published model by its name, local folder or address: its config, and the files beside it."""

import hashlib
import json
import os
import shutil
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ebm_jax.errors import UserError
from ebm_jax.interop.hugging_face.families import Published, read_config

FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")
"""What is fetched: no pickles, no code."""
UNREAD = ("consolidated*", "*/*")
"""What is not: the same weights once more, as some publishers add them, and subfolders."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def locate(name: str) -> Path:
    """The local folder of a model.

    ``name`` is a folder, an address such as ``gs://bucket/model`` (copied once to ``$EBM_JAX_CACHE``, by default
    ``~/.cache/ebm_jax``), or a name on the Hugging Face hub (fetched once into its cache).

    Raises:
      UserError: there is no such folder or model, or it cannot be fetched.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if "://" in name:
        return _copied(name)
    if name.count("/") != 1 or path.is_absolute() or name.startswith("."):
        raise UserError(
            f"{name} is no folder; a model is a folder, gs://BUCKET/PATH, or OWNER/NAME on the Hugging Face hub"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f'fetching {name} needs the hf extra: pip install "ebm_jax[hf]"') from None
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES), ignore_patterns=list(UNREAD)))
    except Exception as error:  # of many kinds: no network, no such model, no permission
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} is no folder here, and the Hugging Face hub does not give it: {reason}") from error


def _copied(address: str) -> Path:
    cache = Path(os.environ.get("EBM_JAX_CACHE", "~/.cache/ebm_jax")).expanduser() / "models"
    folder = cache / hashlib.sha256(address.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    try:
        import fsspec
    except ImportError:
        raise UserError(f'reading {address} needs the hf extra: pip install "ebm_jax[hf]"') from None
    try:
        system, root = fsspec.core.url_to_fs(address)
        found = sorted({file for pattern in FILES for file in system.glob(f"{root.rstrip('/')}/{pattern}")})
        files = [file for file in found if not any(fnmatch(file.rsplit("/", 1)[-1], name) for name in UNREAD)]
    except ImportError as error:  # fsspec names the package: gcsfs, s3fs, ...
        raise UserError(f"reading {address} needs a package of its own: {error}") from error
    except Exception as error:  # each file system raises its own
        raise UserError(f"{address} cannot be read: {error}") from error
    if not files:
        raise UserError(f"{address} holds no model: none of {', '.join(FILES)}")
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache))
    partial.chmod(cache.stat().st_mode)  # others may read what others may list
    try:
        for file in files:
            system.get_file(file, str(partial / file.rsplit("/", 1)[-1]))
        partial.rename(folder)
    except Exception as error:
        if not folder.is_dir():  # else another process was faster
            raise UserError(f"{address} cannot be copied to {cache}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def is_model(folder: Path) -> bool:
    """Whether a folder holds a published model."""
    return (folder / "config.json").is_file()


def read_published(folder: Path) -> Published:
    """The model that a folder's ``config.json`` describes; UserError where there is none or it is not supported."""
    return read_config(read_json(folder / "config.json"))


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object; UserError where it is missing or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__}, and an object is expected")
    return value
