"""Fine-tuning Qwen2.5-1.5B on questions and Python answers: EBFT, SFT and RLVR with unit tests (the EBFT paper's first table).

Command:  hf download Qwen/Qwen2.5-1.5B --local-dir models/Qwen2.5-1.5B
          python -m experiments.finetune configs/ebft/qa_code.py
          for every run and for the base model (out=runs/ebft_qa_code/base/tasks and .../sampled):
          python -m experiments.evaluate RUN tasks=humaneval,mbpp,multipl-e:cpp,multipl-e:js,multipl-e:rs
          python -m experiments.evaluate RUN tasks=humaneval,mbpp samples=16 temperature=0.6 out=RUN/sampled
          python -m experiments.paper.ebft_qa_code runs/ebft_qa_code
Expected: as far as public accounts of the paper have it (≈: read off a picture):

                                base      SFT     RLVR     EBFT
            HumanEval, greedy   ≈ 0.484   0.483   0.535    0.548
            HumanEval, pass@16            0.728            0.771
            cross-entropy       ≈ 0.338   0.289   ≈ 0.774  0.207

Hardware: the paper used 2 H100s of 80 GB, 36 hours an epoch for EBFT and 28 for RLVR, and one for half an hour for SFT; nothing
          was measured with this file here. Eight devices hold two rows of a step each; with fewer, set train.accumulate.
Epochs:   an example is taken to have 290 tokens, so that there are 28,320 rows. How many there are is said at the start of a
          run; a sixteenth of them is an epoch, which train.steps, optim.warmup_steps and train.checkpoint_at follow.
"""

from configs.feature_matching import Task, ebft, joined
from configs.pretrained import QWEN, QWEN_TOKENS, hub_tokenizer, qwen
from ebm_jax.algorithms.ebft import PAPER
from ebm_jax.comparison import Comparison
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.evals.continuations import TaskConfig
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.models.features import FeatureConfig

TESTS = RewardConfig(kind="tests")
TASK = Task(
    name="ebft_qa_code",
    model=qwen(),
    weights=QWEN,
    vocab_size=QWEN_TOKENS,
    data=joined("sft:hf:sjelassi/opencode-instruct_100k_200tok", hub_tokenizer(QWEN)),
    rows=28_320,
)


def passed() -> TaskConfig:
    """Answers to held-out questions that pass all unit tests: pass@1 to pass@16 at the paper's temperature."""
    anchors = AnchorConfig(places="starts", steps=512, most=4)
    sampling = SamplingConfig(temperature=0.6)
    return TaskConfig(reward=TESTS, anchors=anchors, sampling=sampling, samples=16, rows=128, split=TASK.split)


def get_config() -> Comparison:
    return Comparison(
        name=TASK.name,
        methods={
            "ebft": TASK.run(ebft(), epochs=2),
            "ebft_eq8": TASK.run(ebft(PAPER, features=FeatureConfig()), epochs=2),
            "sft": TASK.sft(epochs=2, peak_lr=1e-5),
            "sft_once": TASK.sft(epochs=1, peak_lr=1e-5),
            "rlvr": TASK.rlvr(TESTS, "{unit_tests}", epochs=2, steps=256),
        },
        rows_of="rlvr",
        matching=TASK.matching(),
        tasks={"tests": passed()},
        headline="tests",
    )
