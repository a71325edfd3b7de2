"""Imports of packages that the core does without."""

import importlib
import warnings
from types import ModuleType

from ebm_jax.errors import UserError


def require(module: str, extra: str, why: str) -> ModuleType:
    """Imports an optional package; UserError that names the extra to install when it is missing."""
    try:
        with warnings.catch_warnings():
            # SWIG's generated modules (sentencepiece) warn about their own types on import.
            warnings.filterwarnings("ignore", r"builtin type .* has no __module__ attribute", DeprecationWarning)
            return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f'{why} needs {module}: pip install "ebm_jax[{extra}]" ({error})') from error
