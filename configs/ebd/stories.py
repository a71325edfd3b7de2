"""All ways of decoding at one cost on a real pretrained model, guided by a reward that was trained here, judged by another.

Command:  python -m experiments.decode configs/ebd/stories.py
          after the commands of configs/ebd/stories_reward.py
Expected: (docs/log.md) the judge's reward above plain sampling's by 0.12 [0.05, 0.19] with EBD, 0.18 with best-of-N, 0.26 with
          blockwise control; the guiding reward highest with EBD.
Hardware: 15 minutes of decoding on one CPU core beside another program; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.pretrained import STORIES
from ebm_jax.decoders.budget import Budget
from ebm_jax.decoders.controlled import BlockwiseControl
from ebm_jax.decoders.lookahead import ETS
from ebm_jax.decoders.registry import DECODERS, Decoder
from ebm_jax.decoders.rejection import SpeculativeRejection
from ebm_jax.decoders.smc import SMC
from ebm_jax.decoding_study import DecodingStudy, PromptsConfig, RewardChoice

METHODS = (
    "sampling", "best_of_n", "sir", "iterated_sir", "ebd", "multi_try", "tempering", "qalign", "reward_smc", "ets",
    "blockwise_control", "speculative_rejection",
)  # fmt: skip
BLOCK = 16
"""A quarter of a response, for methods that choose block by block."""


def method(name: str) -> Decoder:
    made = DECODERS[name].make()
    return replace(made, block=BLOCK) if isinstance(made, SMC | ETS | BlockwiseControl | SpeculativeRejection) else made


def get_config() -> DecodingStudy:
    return DecodingStudy(
        name="ebd_stories",
        model=STORIES,
        prompts=PromptsConfig(file="$EBM_JAX_DATA/text_tinystories/stories.jsonl.gz", words=20, skip=2800, count=256),
        methods={name: method(name) for name in METHODS},
        reward=(RewardChoice(name="runs/ebd/reward"),),
        judge=(RewardChoice(name="runs/ebd/judge"),),
        budget=Budget(tokens=1000, reward_calls=25),
        max_new_tokens=64,
        seeds=(0, 1, 2),
        at_once=64,
    )
