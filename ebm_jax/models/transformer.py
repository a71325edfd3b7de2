"""What every transformer here is configured by."""

from dataclasses import dataclass
from typing import Literal

from ebm_jax.errors import UserError
from ebm_jax.models.sizes import SIZES
from ebm_jax.nn.blocks import BlockShape
from ebm_jax.types import Params


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """A size by name, or any part of it by number, and the block's options."""

    size: str = "4xs"
    """4xs, 3xs, xxs, xs, small, medium, large or xl."""
    depth: int | None = None
    """Blocks; None takes the size's."""
    width: int | None = None
    heads: int | None = None
    ffn_multiplier: float = 1.0
    """Hidden width of the feed-forward layer over the model width (1 in the paper)."""
    norm: Literal["rms", "layer", "dyt", "none"] = "rms"
    norm_eps: float = 1e-5
    activation: Literal["silu", "relu", "gelu", "elu"] = "silu"
    rope_theta: float = 10_000.0
    init: Literal["xavier", "he"] = "xavier"
    init_gain: float = 1.0
    embed_std: float = 1.0
    """Standard deviation of the embedding tables."""
    attention: Literal["xla", "cudnn"] = "xla"
    remat: Literal["none", "full", "dots", "dots_no_batch"] = "none"
    """What a block keeps for its backward pass."""
    unroll_layers: bool = False
    """Write the layers out instead of looping; the same numbers, longer compilation."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UserError(f"model.size={self.size!r} is not one of {', '.join(SIZES)}")
        for name in ("depth", "width", "heads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"model.{name}={value} must be at least 1")
        self.block()

    @property
    def resolved_depth(self) -> int:
        return self.depth or SIZES[self.size].depth

    def block(self, modulation: str = "none") -> BlockShape:
        """The shape of one block with all sizes filled in; heads must divide the width."""
        size = SIZES[self.size]
        width = self.width or size.width
        return BlockShape(
            width=width,
            heads=self.heads or size.heads,
            hidden=int(width * self.ffn_multiplier),
            norm=self.norm,
            norm_eps=self.norm_eps,
            activation=self.activation,
            init=self.init,
            init_gain=self.init_gain,
            modulation=modulation,
            attention=self.attention,
        )


def count_parameters(params: Params) -> int:
    """The number of scalars in a parameter tree (arrays or shapes)."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(params))
