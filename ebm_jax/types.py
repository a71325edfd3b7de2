"""Array aliases and the legend of the shape suffixes used in maths code.

An array's name ends in its axes: ``logits_BxTxV`` is batch by time by vocabulary.

====  ==========================================  ====  ==========================================
B     batch (sequences)                           V     vocabulary
T     time (positions of a sequence)              D     model width
S     keys' time, or blocks of a rollout          F     hidden width of the feed-forward layer
G     samples (candidates) per prompt             H     attention heads
N     layers                                      K     key-value heads
I     inner steps of the energy descent           C     width of one head
M     landscapes (distinct step embeddings)       E     features
====  ==========================================  ====  ==========================================

A ``1`` stands for an axis of size one kept for broadcasting.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
PRNGKey: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Params: TypeAlias = Any
Batch: TypeAlias = Mapping[str, Any]
"""``inputs targets weights segments positions`` (all B x T) and ``index`` (B); see ``ebm_jax.algorithm``."""
