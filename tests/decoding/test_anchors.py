"""Where branches grow, against definitions in plain Python, and what lengths that do not fit are told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.decoding.anchors import AnchorConfig, branches_of, prompt_of, true_continuations
from ebm_jax.errors import UserError
from tests import tiny

KEY = jax.random.key(0)
ROWS, PLACES = 6, 22
grown = functools.partial(tiny.jit, static_argnums=(1, 3))(branches_of)


def random_rows(seed=0):
    """Packed documents of random lengths with padding behind, prompts and answers in turn; the last row is all padding."""
    rng = np.random.default_rng(seed)
    batch = {name: np.zeros((ROWS, PLACES), np.int32) for name in ("segments", "positions", "weights")}
    for row in range(ROWS - 1):
        at, document = 0, 0
        end = PLACES - rng.integers(0, 5)
        while at < end:
            length, document = min(int(rng.integers(1, 14)), end - at), document + 1
            batch["segments"][row, at : at + length] = document
            batch["positions"][row, at : at + length] = np.arange(length)
            # A target is the token behind its place, so a document's last place has none.
            for place in range(length - 1):
                batch["weights"][row, at + place] = rng.random() < 0.8
            at += length
    tokens = rng.integers(1, 99, (ROWS, PLACES))
    arrays = {name: jnp.asarray(x) for name, x in batch.items()}
    return {
        **arrays,
        "weights": arrays["weights"].astype(jnp.float32),
        "inputs": jnp.asarray(tokens, jnp.int32),
        "index": jnp.arange(ROWS, dtype=jnp.uint32),
    }


def wanted(batch, row, config, truth=True):
    """All anchors of a row, one place at a time."""
    segments, positions = (np.asarray(batch[name][row]) for name in ("segments", "positions"))
    scored = [False, *(np.asarray(batch["weights"][row, :-1]) > 0)]
    steps, found = config.steps if truth else 1, []
    for anchor in range(1, PLACES - steps + 1):
        block = range(anchor, anchor + steps)
        if segments[anchor] == 0 or any(segments[place] != segments[anchor - 1] for place in block):
            continue
        begin = anchor
        while begin > 0 and scored[begin - 1]:
            begin -= 1
        behind = positions[anchor] - config.prefix
        there = {
            "random": True,
            "documents": behind >= 0 and behind % config.stride == 0,
            "answers": all(scored[p] for p in block) and (anchor - begin) % config.stride == 0,
            "starts": all(scored[p] for p in block) and anchor == begin,
        }
        if there[config.places]:
            found.append(anchor)
    return found


def real(branches, row):
    """The anchors of a row that count; what fills its places comes behind them."""
    there = np.asarray(branches.there_BxS[row]) > 0
    assert (np.sort(there)[::-1] == there).all()
    return np.asarray(branches.anchor_BxS[row])[there].tolist()


@pytest.mark.parametrize("truth", [True, False], ids=["whole", "begun"])
@pytest.mark.parametrize("places", ["documents", "answers", "starts", "random"])
def test_anchors_are_where_they_are_defined(places, truth):
    """All of them where there is room for all, and a choice of them where there is not."""
    batch = random_rows()
    config = AnchorConfig(places=places, steps=3, stride=2, prefix=1, most=PLACES)
    branches = grown(batch, config, KEY, truth)
    for row in range(ROWS):
        assert real(branches, row) == wanted(batch, row, config, truth)
    few = AnchorConfig(places=places, steps=1, stride=1, prefix=2, most=2)
    branches = grown(batch, few, KEY, truth)
    more = 0
    for row in range(ROWS):
        found, possible = real(branches, row), wanted(batch, row, few, truth)
        assert len(found) == min(2, len(possible)) and set(found) <= set(possible) and found == sorted(set(found))
        more += len(possible) > 2
    assert more


def test_chance_chooses_every_anchor_equally_often():
    batch = random_rows()
    row = max(range(ROWS), key=lambda r: len(wanted(batch, r, AnchorConfig(places="random", steps=2))))
    config = AnchorConfig(places="random", steps=2, most=3)
    possible = wanted(batch, row, config)
    many = 3000
    same = {name: jnp.broadcast_to(x[row], (many, *x.shape[1:])) for name, x in batch.items()}
    branches = grown(same | {"index": jnp.arange(many, dtype=jnp.uint32)}, config, KEY, True)
    counts = np.array([(np.asarray(branches.anchor_BxS) == anchor).sum() for anchor in possible])
    expected = 3 * many / len(possible)
    assert counts.sum() == 3 * many and len(possible) > 6
    assert ((counts - expected) ** 2 / expected).sum() < 3 * len(possible)


def test_chance_depends_on_the_row_and_the_key_alone():
    batch, config = random_rows(), AnchorConfig(places="random", steps=2, most=2)
    whole = grown(batch, config, KEY, True)
    order = np.array([4, 0, 3, 1, 5, 2])
    mixed = grown({name: x[order] for name, x in batch.items()}, config, KEY, True)
    np.testing.assert_array_equal(mixed.anchor_BxS, whole.anchor_BxS[order])
    half = grown({name: x[: ROWS // 2] for name, x in batch.items()}, config, KEY, True)
    np.testing.assert_array_equal(half.anchor_BxS, whole.anchor_BxS[: ROWS // 2])
    other = grown(batch, config, jax.random.key(1), True)
    assert (np.asarray(other.anchor_BxS) != whole.anchor_BxS).any()


@pytest.mark.parametrize("documents", ["separate", "joined", "reference"])
def test_strided_anchors_positions_and_documents(documents):
    batch = random_rows()
    config = AnchorConfig(steps=4, stride=3, prefix=3, documents=documents)
    branches = grown(batch, config, KEY, True)
    anchors = [3, 6, 9, 12, 15, 18]
    np.testing.assert_array_equal(branches.anchor_BxS, np.broadcast_to(anchors, (ROWS, 6)))
    assert branches.reach == tuple(anchors)
    prompt = prompt_of(batch, config)
    segments = np.asarray(batch["segments"])
    if documents == "joined":
        segments = np.ones_like(segments)
        np.testing.assert_array_equal(prompt.positions, np.broadcast_to(np.arange(PLACES), segments.shape))
    else:
        assert prompt.positions is batch["positions"]
    np.testing.assert_array_equal(prompt.segments, segments)
    positions = np.asarray(prompt.positions)
    for row in range(ROWS):
        for k, e in enumerate(anchors):
            inside = segments[row, e] > 0 and len({*segments[row, e - 1 : e + 4]}) == 1
            assert branches.there_BxS[row, k] == (inside or documents != "separate")
            for t in range(4):
                # Separate documents: a token goes on where the text before its block ended. As published: where it stands.
                of = e + t if documents == "reference" else e - 1
                first = min(p for p in range(PLACES) if segments[row, p] == segments[row, of])
                assert branches.first_BxSxT[row, k, t] == first
                start = positions[row, e] if documents == "reference" else positions[row, e - 1] + 1
                assert branches.position_BxSxT[row, k, t] == start + t
                same = [segments[row, e + u] == segments[row, e + t] or documents != "reference" for u in range(t + 1)]
                assert branches.own_BxSxTxT[row, k, t].tolist() == same + [False] * (3 - t)


def test_true_continuations_are_the_row_s_own_tokens():
    batch = random_rows()
    for config in (AnchorConfig(steps=4, stride=3, prefix=3), AnchorConfig(places="documents", steps=2, stride=2)):
        branches = grown(batch, config, KEY, True)
        true = np.asarray(true_continuations(batch["inputs"], branches))
        for row in range(ROWS):
            for k, anchor in enumerate(np.asarray(branches.anchor_BxS[row])):
                np.testing.assert_array_equal(true[row, k], batch["inputs"][row, anchor : anchor + config.steps])


def test_blocks_without_a_place_see_something_and_count_for_nothing():
    batch = random_rows()
    branches = grown(batch, AnchorConfig(places="answers", steps=5, stride=1, most=7), KEY, True)
    fill = np.asarray(branches.there_BxS) == 0
    assert fill[-1].all() and (np.asarray(branches.anchor_BxS)[fill] == 1).all()
    assert np.asarray(branches.own_BxSxTxT).any(-1).all()


@pytest.mark.parametrize(
    ("context", "settings", "blocks"),
    [
        (1024, {}, 127),
        (1024, {"steps": 4, "prefix": 4, "stride": 2}, 509),
        (16, {}, 1),
        (22, {"places": "documents"}, 1),
        (22, {"places": "documents", "stride": 4, "prefix": 2}, 4),
        (22, {"places": "random", "most": 5}, 5),
        (22, {"places": "random", "most": 99}, 14),
        (22, {"places": "answers", "most": 99, "steps": 1}, 21),
        (22, {"places": "starts"}, 8),
        (22, {"places": "starts", "most": 99}, 14),
    ],
)
def test_blocks_of_a_row(context, settings, blocks):
    assert AnchorConfig(**settings).blocks(context) == blocks


def test_answers_that_need_no_true_ones_may_be_longer_than_rows():
    config = AnchorConfig(places="starts", steps=100)
    assert config.blocks(22, truth=False) == 8
    branches = grown(random_rows(), config, KEY, False)
    assert branches.position_BxSxT.shape == (ROWS, 8, 100)
    for row in range(ROWS):
        assert real(branches, row) == wanted(random_rows(), row, config, truth=False)
    with pytest.raises(UserError, match=r"anchors\.steps=100 behind one token needs 101"):
        config.blocks(22)


def test_more_blocks_than_places_are_as_many_as_there_are():
    batch, config = random_rows(), AnchorConfig(places="random", steps=2, most=1000)
    branches = grown(batch, config, KEY, True)
    for row in range(ROWS):
        assert real(branches, row) == wanted(batch, row, config)


@pytest.mark.parametrize(
    ("context", "settings", "says"),
    [
        (15, {}, r"data\.context=15 tokens are shorter than one block.* anchors\.prefix=8 needs 16"),
        (9, {"places": "documents"}, r"data\.context=9 tokens are shorter than one block.* needs 16"),
        (8, {"places": "random"}, r"anchors\.steps=8 behind one token needs 9"),
        (27, {}, r"= 11 is not a multiple of anchors\.stride=8: .* tiled are 24 and 32 \(or anchors\.prefix=11\)"),
        (20, {"steps": 4, "prefix": 4, "stride": 5}, r"tiled are 18 and 23 \(or anchors\.prefix=6\)"),
        (17, {"stride": 100}, r"tiled are 16 and 116 \(or anchors\.prefix=9\)"),
    ],
)
def test_lengths_that_do_not_fit_are_told_which_do(context, settings, says):
    config = AnchorConfig(**settings)
    with pytest.raises(UserError, match=says) as error:
        config.blocks(context)
    if "tiled are" in str(error.value):
        tail = str(error.value).partition("tiled are ")[2]
        near = [int(word) for word in tail.replace("(", " ").split() if word.isdigit()]
        assert len(near) == 2 and near[0] < context < near[1]
        for length in near:
            config.blocks(length)
        longest = max(n for n in range(near[0], near[1]) if _tiles(config, n))
        assert longest == near[0]


def _tiles(config, context):
    try:
        return config.blocks(context) > 0
    except UserError:
        return False


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"places": "everywhere"}, r"anchors\.places='everywhere' is not one of strided, documents, answers"),
        ({"documents": "mixed"}, r"anchors\.documents='mixed' is not one of separate, joined, reference"),
        ({"steps": 0}, r"anchors\.steps=0 must be at least 1"),
        ({"stride": 0}, r"anchors\.stride=0"),
        ({"prefix": 0}, r"anchors\.prefix=0"),
        ({"places": "random", "most": 0}, r"anchors\.most=0 must be at least 1"),
        ({"most": 3}, r"anchors\.most is for anchors\.places other than strided"),
        ({"places": "random", "documents": "reference"}, r"documents=reference goes with anchors\.places=strided"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(UserError, match=says):
        AnchorConfig(**settings)
