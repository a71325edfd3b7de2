"""Where branches grow from a row: strided over all of it, in every document, at answers, or at random places.

With prompts of P tokens, continuations of T tokens, a first prefix of C tokens and a stride of s, the anchors of a row are
``e_k = C + k s`` for ``k = 0 .. (P - T - C) / s``: prefixes are nested, and the true continuation of block k is
``x[e_k : e_k + T]`` (EBFT).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import rng
from ebm_jax.errors import UserError
from ebm_jax.nn.branches import Branches
from ebm_jax.types import Array, Batch, PRNGKey

PLACES = ("strided", "documents", "answers", "starts", "random")
STARTS = 8
DOCUMENTS = ("separate", "joined", "reference")


@dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """Which continuations a row is asked for."""

    steps: int = 8
    """T: tokens of a continuation."""
    stride: int = 8
    """s: tokens from one anchor to the next."""
    prefix: int = 8
    """C: tokens before the first anchor of a row (of a document, where ``places`` is ``documents``)."""
    places: Literal["strided", "documents", "answers", "starts", "random"] = "strided"
    """``strided``    the same places in all rows, whatever is there;
    ``documents``  every ``stride`` tokens of each document;
    ``answers``    every ``stride`` tokens of what is scored (completions), from its first token;
    ``starts``     only that first token: whole answers to questions;
    ``random``     anywhere.
    But for ``strided``, a continuation's place lies within one document, for ``answers`` within what is scored."""
    documents: Literal["separate", "joined", "reference"] = "separate"
    """``separate``   a row's documents do not see each other; blocks across a boundary do not count;
    ``joined``     a row is one text, as published runs have it;
    ``reference``  documents do not see each other, and blocks across a boundary go on as the published code has them: a token
                   belongs to the document of the true token in its place, at the position where the block began."""
    most: int | None = None
    """Blocks of a row at most, and their number where places are ``random``; None: as many as ``strided`` has, of ``starts`` 8.
    Where there are more, chance decides."""

    def __post_init__(self) -> None:
        for name, known in (("places", PLACES), ("documents", DOCUMENTS)):
            if getattr(self, name) not in known:
                raise UserError(f"anchors.{name}={getattr(self, name)!r} is not one of {', '.join(known)}")
        for name in ("steps", "stride", "prefix"):
            if getattr(self, name) < 1:
                raise UserError(f"anchors.{name}={getattr(self, name)} must be at least 1")
        if self.most is not None and self.most < 1:
            raise UserError(f"anchors.most={self.most} must be at least 1, or none for as many as fit")
        if self.places == "strided" and self.most is not None:
            raise UserError(
                "anchors.most is for anchors.places other than strided, whose number follows from the lengths"
            )
        if self.documents == "reference" and self.places != "strided":
            raise UserError("anchors.documents=reference goes with anchors.places=strided")

    def blocks(self, context: int, truth: bool = True) -> int:
        """S: blocks of a row of ``context`` tokens; without ``truth``, answers to ``starts`` may be longer than the row.

        Raises:
          UserError: no block fits, or strided blocks do not tile the row; the message has the nearest lengths that do.
        """
        prefix = self.prefix if self.places in ("strided", "documents") else 1
        last = context - (self.steps if truth or self.places != "starts" else 1)
        if last < prefix:
            raise UserError(
                f"rows of data.context={context} tokens are shorter than one block: a continuation of"
                f" anchors.steps={self.steps} behind {f'anchors.prefix={prefix}' if prefix > 1 else 'one token'} needs"
                f" {context + prefix - last}"
            )
        if self.places == "strided":
            over = (last - prefix) % self.stride
            if over:
                lower = context - over
                fits = [n for n in (lower, lower + self.stride) if n >= self.steps + prefix]
                raise UserError(
                    f"data.context={context} - anchors.steps={self.steps} - anchors.prefix={prefix} = {last - prefix} is"
                    f" not a multiple of anchors.stride={self.stride}: the nearest contexts that are tiled are"
                    f" {' and '.join(map(str, fits))} (or anchors.prefix={prefix + over})"
                )
            return (last - prefix) // self.stride + 1
        many = STARTS if self.places == "starts" else max(1, (last - min(self.prefix, last)) // self.stride + 1)
        return min(self.most or many, last)


class Prompt(NamedTuple):
    """A row as the model reads it, ``[B, P]`` each."""

    tokens: Array
    positions: Array
    segments: Array


def prompt_of(batch: Batch, config: AnchorConfig) -> Prompt:
    """The rows of a batch as prompts; ``joined`` makes one document of each."""
    tokens = batch["inputs"]
    if config.documents != "joined":
        return Prompt(tokens, batch["positions"], batch["segments"])
    return Prompt(tokens, jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape), jnp.ones_like(tokens))


def branches_of(batch: Batch, config: AnchorConfig, key: PRNGKey, truth: bool = True) -> Branches:
    """The branches of every row; ``key`` and the row's number decide where chance does.

    With ``truth``, a block counts only where the row has all of its true continuation.
    """
    prompt = prompt_of(batch, config)
    rows, blocks = len(prompt.tokens), config.blocks(prompt.tokens.shape[1], truth)
    reach = None
    if config.places == "strided":
        reach = tuple(config.prefix + k * config.stride for k in range(blocks))
        anchor = jnp.broadcast_to(jnp.asarray(reach, jnp.int32), (rows, blocks))
        there = jnp.ones((rows, blocks), bool)
        if config.documents == "separate":
            there = jnp.take_along_axis(_within_document(batch, config.steps), anchor, axis=1)
    else:
        anchor, there = _chosen(_candidates(batch, config, truth), blocks, key, batch["index"])
    t = jnp.arange(config.steps)
    own = jnp.broadcast_to(t <= t[:, None], (rows, blocks, config.steps, config.steps))
    take = lambda x, at: jnp.take_along_axis(x, at.reshape(rows, -1), axis=1).reshape(at.shape)
    if config.documents == "reference":
        place = anchor[..., None] + t
        segment = take(prompt.segments, place)
        first, same = take(_starts(prompt.segments), place), segment[..., None] == segment[..., None, :]
        # As published: every token stands where the block's first true token does in its document, and on from there.
        position = take(prompt.positions, anchor)[..., None] + t
        return Branches(anchor, first, own & same, position, there.astype(jnp.float32), reach)
    first = take(_starts(prompt.segments), anchor - 1)[..., None]
    position = take(prompt.positions, anchor - 1)[..., None] + 1 + t
    first = jnp.broadcast_to(first, position.shape)
    return Branches(anchor, first, own, position, there.astype(jnp.float32), reach)


def true_continuations(tokens_BxP: Array, branches: Branches) -> Array:
    """The row's own tokens in every block's place, ``[B, S, T]``."""
    place = branches.anchor_BxS[..., None] + jnp.arange(branches.position_BxSxT.shape[-1])
    return jnp.take_along_axis(tokens_BxP, place.reshape(place.shape[0], -1), axis=1).reshape(place.shape)


def _within_document(batch: Batch, steps: int) -> Array:
    """Whether a block at this anchor continues a document and ends in it, ``[B, P]``; padding is no document."""
    segments = batch["segments"]
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))
    end = jnp.pad(segments[:, steps - 1 :], ((0, 0), (0, steps - 1)))
    return (segments > 0) & (before == segments) & (end == segments)


def _candidates(batch: Batch, config: AnchorConfig, truth: bool) -> Array:
    """Whether the config puts an anchor here, ``[B, P]``."""
    fits = _within_document(batch, config.steps if truth else 1)
    if config.places == "random":
        return fits
    if config.places == "documents":
        behind = batch["positions"] - config.prefix
        return fits & (behind >= 0) & (behind % config.stride == 0)
    # weights[i] says whether token i + 1 is scored; an answer's first token is scored and the one before it is not.
    scored = jnp.pad(batch["weights"][:, :-1] > 0, ((0, 0), (1, 0)))
    start = scored & ~jnp.pad(scored[:, :-1], ((0, 0), (1, 0)))
    total, steps = jnp.cumsum(scored, axis=1), config.steps if truth else 1
    whole = jnp.pad(total[:, steps - 1 :], ((0, 0), (0, steps - 1))) - total + scored == steps
    if config.places == "starts":
        return fits & start & whole
    place = jnp.arange(scored.shape[1])
    begun = jax.lax.cummax(jnp.where(start, place, -1), axis=1)
    return fits & scored & whole & ((place - begun) % config.stride == 0)


def _chosen(candidates_BxP: Array, blocks: int, key: PRNGKey, index_B: Array) -> tuple[Array, Array]:
    """Up to ``blocks`` candidates of every row in rising order, chance choosing where there are more, and which are real."""
    length = candidates_BxP.shape[1]
    luck = rng.uniform_rows(rng.stream(key, "anchors"), index_B, (length,), jnp.float32)
    luck, place = jax.lax.top_k(jnp.where(candidates_BxP, 1 + luck, 0.0), blocks)
    place = jnp.sort(jnp.where(luck > 0, place, length), axis=1)
    there = place < length
    return jnp.where(there, place, 1), there


def _starts(segments_BxP: Array) -> Array:
    """Where the segment of every token begins, ``[B, P]``."""
    changes = segments_BxP != jnp.pad(segments_BxP[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return jax.lax.cummax(jnp.where(changes, jnp.arange(segments_BxP.shape[1]), 0), axis=1)
