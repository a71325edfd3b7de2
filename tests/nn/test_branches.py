"""What branches see, against a predicate by brute force and against attention over whole rows under its mask."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.anchors import AnchorConfig, branches_of
from ebm_jax.nn import attention
from ebm_jax.nn.attention import attend_branches
from ebm_jax.nn.branches import positions_of, sight
from tests import tiny
from tests.nn.allowed import allowed, step_major

KEY = jax.random.key(0)
# Places of a prompt, first anchor, stride, steps, samples, window: abutting, overlapping and gaping blocks, single tokens, and
# a single block.
LENGTHS = [
    (13, 3, 2, 2, 1, None),
    (14, 2, 2, 4, 2, None),
    (16, 4, 5, 2, 1, 3),
    (9, 1, 1, 1, 2, 2),
    (7, 4, 3, 3, 3, None),
]
grown = functools.partial(tiny.jit, static_argnums=1)(branches_of)
SEGMENTS = {
    "one document": lambda places: np.ones(places, int),
    "three": lambda places: np.minimum(np.arange(places) // 4 + 1, 3),
    "padding behind": lambda places: (np.arange(places) < places - 3).astype(int),
}
CODE = AnchorConfig(documents="joined")
"""The published lengths for code: 8, 8 and 8, in rows of 1024."""


def rows(segments):
    """A batch with these documents, ``[B, P]``; its tokens are their places."""
    segments = np.atleast_2d(segments)
    positions = np.zeros_like(segments)
    for i in range(1, segments.shape[1]):
        positions[:, i] = np.where(segments[:, i] == segments[:, i - 1], positions[:, i - 1] + 1, 0)
    return {
        "inputs": jnp.asarray(np.broadcast_to(np.arange(segments.shape[1]), segments.shape), jnp.int32),
        "segments": jnp.asarray(segments, jnp.int32),
        "positions": jnp.asarray(positions, jnp.int32),
        "weights": jnp.asarray(segments > 0, jnp.float32),
        "index": jnp.arange(len(segments), dtype=jnp.uint32),
    }


def predicate(segments, config, samples, window):
    """Which token reads which, one pair at a time: tokens are (place, None, document) of the prompt and (step, block, ...)."""
    places, documents = len(segments), config.documents
    tokens = [(p, None, segments[p]) for p in range(places)]
    for g, k, t in itertools.product(range(samples), range(config.blocks(places)), range(config.steps)):
        anchor = config.prefix + k * config.stride
        of = {"separate": anchor - 1, "reference": anchor + t, "joined": 0}[documents]
        tokens.append((anchor + t, (g, k), segments[of]))
    if documents == "joined":
        tokens = [(place, block, 1) for place, block, _ in tokens]

    def reads(query, key):
        (at, block, document), (place, other, its) = query, key
        if block is None:
            inside = other is None and place <= at
        elif other is None:
            inside = place < config.prefix + block[1] * config.stride
        else:
            inside = block == other and place <= at
        return inside and document == its and (window is None or place > at - window)

    return np.array([[reads(q, k) for k in tokens] for q in tokens])


@pytest.mark.parametrize("documents", ["joined", "separate", "reference"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda n: "-".join(map(str, n)))
def test_attention_lets_through_what_the_predicate_says(lengths, documents):
    places, prefix, stride, steps, samples, window = lengths
    config = AnchorConfig(prefix=prefix, stride=stride, steps=steps, documents=documents)
    segments = np.stack([make(places) for make in SEGMENTS.values()])
    seen = jnp.ones_like(segments) if documents == "joined" else jnp.asarray(segments)
    found = allowed(seen, grown(rows(segments), config, KEY), samples, window)
    assert found.any(-1).all()
    for ours, row in zip(found, segments, strict=True):
        np.testing.assert_array_equal(ours, predicate(row, config, samples, window))


def test_pairs_are_as_many_as_they_should_be():
    places, prefix, stride, steps = LENGTHS[0][:4]
    config = AnchorConfig(prefix=prefix, stride=stride, steps=steps, documents="joined")
    anchors = [prefix + k * stride for k in range(config.blocks(places))]
    own = sum(steps * e + steps * (steps + 1) // 2 for e in anchors)
    branches = grown(rows(np.ones(places, int)), config, KEY)
    assert allowed(jnp.ones((1, places)), branches).sum() == places * (places + 1) // 2 + own


def test_published_lengths_for_code():
    branches = grown(rows(np.ones(1024, int)), CODE, KEY)
    assert branches.anchor_BxS.shape == (1, 127) and branches.reach == tuple(range(8, 1017, 8))
    prompt = branches.anchor_BxS[..., None] - branches.first_BxSxT
    assert int(prompt.sum() + branches.own_BxSxTxT.sum()) == 524_764


def test_a_row_step_by_step_is_a_row_block_by_block():
    """Token t of block k lies at P + t S + k in rows of published runs."""
    places, blocks, steps = 3, 2, 4
    order = [*range(places), *(places + k * steps + t for t in range(steps) for k in range(blocks))]
    matrix = np.arange((places + blocks * steps) ** 2).reshape(1, -1, places + blocks * steps)
    np.testing.assert_array_equal(step_major(matrix, places, blocks, steps), matrix[:, order][:, :, order])
    batch = rows(np.ones(places + 6, int))
    branches = grown(batch, AnchorConfig(prefix=3, stride=2, steps=4), KEY)
    assert positions_of(branches, 2).tolist() == [[3, 4, 5, 6, 5, 6, 7, 8] * 2]


def whole_rows(q, prompt, own, mask):
    """Textbook attention over rows ``[prompt | branches]``; q of the branches only."""
    heads, groups = q.shape[1], prompt[0].shape[1]
    k, v = (
        np.repeat(np.concatenate([x, y.reshape(*y.shape[:2], -1, y.shape[-1])], axis=2), heads // groups, axis=1)
        for x, y in zip(prompt, own, strict=True)
    )
    scores = np.where(mask[:, None], np.einsum("bhxc,bhyc->bhxy", q, k) / np.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhxy,bhyc->bhxc", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["one piece", "pieces", "pieces, anchors unknown", "window", "large scores"])
def test_two_parts_in_one_softmax_are_attention_over_the_row(kind, monkeypatch):
    """Grouped queries, three documents, and gradients to everything; either part may hold the maximum, or all of it."""
    places, prefix, stride, steps = 14, 2, 2, 4
    heads, groups, samples, width = 4, 2, 3, 6
    scale, window = 60.0 if kind == "large scores" else 1.0, 3 if kind == "window" else None
    if kind.startswith("pieces"):
        monkeypatch.setattr(attention, "BRANCH_SCORES", 1)
        monkeypatch.setattr(attention, "BRANCH_PIECES", 4)
    config = AnchorConfig(prefix=prefix, stride=stride, steps=steps, documents="reference")
    batch = rows(np.stack([make(places) for make in SEGMENTS.values()][:2]))
    branches = grown(batch, config, KEY)
    if kind == "pieces, anchors unknown":
        branches = branches.replace(reach=None)
    blocks = config.blocks(places)
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(scale * rng.standard_normal(shape))
    q = draw(2, heads, samples * blocks * steps, width)
    keys = [draw(2, groups, places, width) for _ in "kv"] + [
        draw(2, groups, samples * blocks, steps, width) for _ in "kv"
    ]
    mask = allowed(batch["segments"], branches, samples, window)[:, places:]
    ours = lambda q, *keys: attend_branches(q, *keys, branches, sight(branches, window))
    expected = whole_rows(q, keys[:2], keys[2:], mask)
    np.testing.assert_allclose(tiny.jit(ours)(q, *keys), expected, rtol=0, atol=1e-13 * scale)
    if kind not in ("one piece", "pieces"):
        return

    def dense(q, *keys):
        k, v = (
            jnp.repeat(jnp.concatenate([x, y.reshape(2, groups, -1, width)], axis=2), heads // groups, axis=1)
            for x, y in zip(keys[:2], keys[2:], strict=True)
        )
        return attention.attend(q, k, v, mask[:, None])

    gradient = lambda f: tiny.jit(jax.grad(lambda *x: jnp.sum(jnp.sin(f(*x))), tuple(range(5))))(q, *keys)
    tiny.assert_trees_close(gradient(ours), gradient(dense), 1e-12)


@pytest.mark.parametrize("window", [None, 1, 3])
def test_one_step_of_a_branch_sees_what_its_token_sees(window):
    config = AnchorConfig(prefix=2, stride=2, steps=4, documents="reference")
    branches = grown(rows(SEGMENTS["three"](14)), config, KEY)
    whole = sight(branches, window)
    for step in range(config.steps):
        at = jnp.asarray(step)
        one = sight(branches.at(at), window, at)
        np.testing.assert_array_equal(one.first_BxSxT[..., 0], whole.first_BxSxT[..., step])
        np.testing.assert_array_equal(one.own_BxSxTxU[:, :, 0], whole.own_BxSxTxU[:, :, step])
        np.testing.assert_array_equal(branches.at(at).position_BxSxT[..., 0], branches.position_BxSxT[..., step])


def test_beginnings_of_branches_are_shorter_branches():
    batch = rows(SEGMENTS["three"](14))
    config = AnchorConfig(prefix=2, stride=2, steps=4, documents="reference")
    cut = grown(batch, config, KEY).until(2)
    short = grown(batch, AnchorConfig(prefix=2, stride=2, steps=2, documents="reference"), KEY)
    for name in ("first_BxSxT", "own_BxSxTxT", "position_BxSxT"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(short, name)[:, : cut.anchor_BxS.shape[1]])
