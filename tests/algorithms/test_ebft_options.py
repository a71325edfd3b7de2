"""What options of EBFT may be, and what its presets are."""

from types import SimpleNamespace

import pytest

from ebm_jax.algorithms.ebft import PAPER, REFERENCE, EBFTConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError
from ebm_jax.models.features import FeatureConfig
from tests.algorithms.tiny_ebft import ebft, variables_of

BAD = {
    "temperature=0 makes 4 equal samples": {"sampling": SamplingConfig(temperature=0.0)},
    "samples=0 must be at least 1": {"samples": 0},
    "baseline='mean' is not one of none, rloo": {"baseline": "mean"},
    "end='stop' is not one of ignore, mask_after": {"end": "stop"},
    "gamma=-0.1 must not be negative": {"gamma": -0.1},
    "alpha=-1.0 and algorithm": {"alpha": -1.0},
    "whiten='zca' is not one of none, sample_axis": {"whiten": "zca"},
    "whiten_tolerance=0.0 must lie between": {"whiten_tolerance": 0.0},
    "kl_estimator='k1' is not one of k2, k3": {"kl_estimator": "k1"},
}


@pytest.mark.parametrize("words", BAD)
def test_bad_options_are_named(words):
    with pytest.raises(UserError, match=rf"^algorithm\..*{words}"):
        EBFTConfig(**BAD[words])


def test_rows_and_tokenizers_that_do_not_fit_are_named():
    with pytest.raises(UserError, match=r"the nearest contexts that are tiled are 6 and 8"):
        variables_of(ebft(), length=7)
    with pytest.raises(UserError, match=r"data\.context=3 tokens are shorter than one block"):
        variables_of(ebft(), length=3)
    with pytest.raises(UserError, match=r"end=mask_after: this tokenizer has no end-of-text token"):
        ebft(end="mask_after").meet(SimpleNamespace(tokenizer=SimpleNamespace(eos_id=None)))
    with pytest.raises(UserError, match=r"has 1 blocks, not 2"):
        ebft(features=FeatureConfig(depths=(2,)))


def test_presets_are_what_was_published():
    reference, paper = EBFTConfig(**REFERENCE), EBFTConfig(**PAPER)
    for preset in (reference, paper):
        assert (preset.samples, preset.anchors.steps, preset.anchors.stride, preset.anchors.prefix) == (4, 8, 8, 8)
        assert (preset.sampling.temperature, preset.sampling.top_p, preset.policy_temperature) == (0.6, 1.0, 0.6)
        assert (preset.align, preset.baseline, preset.alignment, preset.ce_mask) == ("cosine", "rloo", 1.0, "all")
        assert (preset.features.weights, preset.features.norm, preset.features.pool) == ("base", "joint", "last")
        assert (preset.anchors.places, preset.anchors.documents, preset.end) == ("strided", "joined", "ignore")
        assert (preset.kl, preset.entropy, preset.aggregate, preset.policy) == (0, 0, "token_mean", 1)
    assert (reference.whiten, reference.whiten_scale, reference.as_published) == ("sample_axis", "1", True)
    assert (paper.whiten, paper.whiten_scale, paper.as_published) == ("feature_axis", "1/n", False)
    assert FeatureConfig().layers(28) == (7, 14, 21)
