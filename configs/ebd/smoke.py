"""Ways of decoding that ask for no other model, end to end on one that has learned next to nothing; short lines are rewarded.

Command:  python -m experiments.decode configs/ebd/smoke.py
Expected: a page of every method that asks for no other model; no law of it means anything.
Hardware: 2 CPU cores, under a minute; nothing but Python itself.
"""

from dataclasses import replace

from configs.smoke.lm import get_config as model
from ebm_jax.decoders.registry import DECODERS
from ebm_jax.decoding_study import DecodingStudy, PromptsConfig, RewardChoice
from ebm_jax.training.config import TrainConfig

OF_OTHERS = ("controlled", "proxy_tuning", "delayed_acceptance")
"""Methods that need a value head, two more models or a second reward."""


def get_config() -> DecodingStudy:
    trained = replace(model(), train=TrainConfig(steps=20, batch_size=8, log_every=10))
    return DecodingStudy(
        name="ebd_smoke",
        model=trained,
        prompts=PromptsConfig(texts=("def read(path):\n", "import os\n", "class Node:\n", "for line in ")),
        methods={name: entry.make() for name, entry in DECODERS.items() if name not in OF_OTHERS},
        reward=(RewardChoice(kind="length"),),
        max_new_tokens=12,
        at_once=4,
    )
