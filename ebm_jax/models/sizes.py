"""Model sizes of the EBT paper (Table D.1); the feed-forward width equals the model width everywhere."""

from typing import NamedTuple


class Size(NamedTuple):
    """Blocks, width, heads, and the peak learning rate the paper gives Transformer++."""

    depth: int
    width: int
    heads: int
    peak_lr: float


SIZES: dict[str, Size] = {
    "4xs": Size(2, 128, 2, 2.4e-3),
    "3xs": Size(4, 256, 4, 1.8e-3),
    "xxs": Size(6, 384, 6, 1.2e-3),
    "xs": Size(12, 384, 6, 9e-4),
    "small": Size(12, 768, 12, 6e-4),
    "medium": Size(24, 1024, 16, 3e-4),
    "large": Size(24, 1536, 16, 2.5e-4),
    "xl": Size(24, 2048, 32, 2e-4),
}
