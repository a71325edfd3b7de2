"""One precision policy: the type of the parameters, of the computation, and of sums that must not lose digits."""

from dataclasses import dataclass

import jax.numpy as jnp

from ebm_jax.errors import UserError

_TYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Types by name; energies, softmax statistics and log-probabilities always use ``reduce``."""

    param: str = "float32"
    compute: str = "float32"
    reduce: str = "float32"

    def __post_init__(self) -> None:
        for field in ("param", "compute", "reduce"):
            if getattr(self, field) not in _TYPES:
                raise UserError(f"precision.{field}={getattr(self, field)!r} is not one of {', '.join(_TYPES)}")
        if self.reduce not in ("float32", "float64"):
            raise UserError(f"precision.reduce={self.reduce!r} must be float32 or float64: sums lose digits below that")

    @property
    def param_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.param)

    @property
    def compute_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.compute)

    @property
    def reduce_dtype(self) -> jnp.dtype:
        return jnp.dtype(self.reduce)
