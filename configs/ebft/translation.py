"""Fine-tuning Llama-3.2-1B on translations: EBFT, SFT and RLVR with sentence BLEU (the EBFT paper's third task).

Continuations are of four tokens, from every second on, and their features are means over them. Of ALMA's examples one of a
hundred is held out. Most are shorter than 64 tokens, so completions are compared up to 32.

Command:  hf download meta-llama/Llama-3.2-1B --local-dir models/Llama-3.2-1B
          python -m experiments.finetune configs/ebft/translation.py
          for every run and for the base model (out=runs/ebft_translation/base/tasks):
          python -m experiments.evaluate RUN tasks=mt:en-de,mt:de-en,mt:en-cs,mt:cs-en,mt:en-is,mt:is-en,mt:en-ru,mt:ru-en,\
mt:en-zh,mt:zh-en,mtnt:en-fr,mtnt:fr-en,mtnt:en-ja,mtnt:ja-en
          python -m experiments.paper.ebft_translation runs/ebft_translation
Expected: as far as public accounts of the paper have it:

                                     base    SFT     RLVR    EBFT
            COMET, greedy, WMT22             0.717           0.725
            COMET, greedy, MTNT                      0.705   0.737
            cross-entropy            1.870   1.782   2.454   1.670

Hardware: the paper used 2 H100s of 80 GB; nothing was measured with this file here.
Epochs:   an example is taken to have 130 tokens, so that there are 12,690 rows; see configs/ebft/qa_code.py.
"""

from configs.feature_matching import Task, ebft, joined
from configs.pretrained import LLAMA, LLAMA_TOKENS, hub_tokenizer, llama
from ebm_jax.algorithms.ebft import PAPER, EBFTConfig
from ebm_jax.comparison import Comparison
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.evals.continuations import MatchingConfig, TaskConfig
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.models.features import FeatureConfig

BLEU = RewardConfig(kind="bleu", language="auto", first_line=True)
GEOMETRY = AnchorConfig(steps=4, stride=2, prefix=4, documents="joined")
MEANS = FeatureConfig(pool="mean", dtype="bfloat16")
TASK = Task(
    name="ebft_translation",
    model=llama(),
    weights=LLAMA,
    vocab_size=LLAMA_TOKENS,
    data=joined("sft:hf:sjelassi/alma", hub_tokenizer(LLAMA), validation_fraction=0.01),
    rows=12_690,
    split="validation",
)


def method(preset: dict | None = None, **changes) -> EBFTConfig:
    """EBFT with the settings for translation."""
    settings = {"anchors": GEOMETRY, "features": MEANS} | changes
    return ebft(**settings) if preset is None else ebft(preset, **settings)


def compared() -> MatchingConfig:
    """Completions that fit translations, looked at as training does."""
    return TASK.matching(lengths=(1, 2, 4, 8, 16, 32), features=MEANS)


def translated() -> TaskConfig:
    """Sentence BLEU of translations of held-out sentences, and the best of up to 16."""
    anchors = AnchorConfig(places="starts", steps=256, most=8)
    sampling = SamplingConfig(temperature=0.6)
    return TaskConfig(reward=BLEU, anchors=anchors, sampling=sampling, samples=16, rows=64, split=TASK.split)


def get_config() -> Comparison:
    return Comparison(
        name=TASK.name,
        methods={
            "ebft": TASK.run(method(), epochs=2),
            "ebft_eq8": TASK.run(method(PAPER, features=FeatureConfig(pool="mean")), epochs=2),
            "sft": TASK.sft(epochs=2, peak_lr=3e-6),
            "sft_once": TASK.sft(epochs=1, peak_lr=3e-6),
            "rlvr": TASK.rlvr(BLEU, "", epochs=2, steps=256),
        },
        rows_of="rlvr",
        matching=compared(),
        tasks={"bleu": translated()},
        headline="bleu",
    )
