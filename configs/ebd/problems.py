"""Ways of decoding on problems that a program checks, guided by rewards that never saw the check: what a second model thinks
likely, and what a reward model of steps says.

Command:  python -m experiments.decode configs/ebd/problems.py
          after the commands of configs/ebd/problems_reward.py
Expected: sums 0.55 by greedy decoding and 0.79 with EBD, puzzles 0.45 and 0.61; docs/log.md has all methods and intervals.
Hardware: 15 minutes on one CPU core beside another program for all methods and seeds; nothing but Python itself.
"""

from configs.pretrained import PROBLEMS, SECOND
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.registry import DECODERS, Decoder
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.decoding_study import DecodingStudy, RewardChoice

CHAIN = EBD()
SHARP = EBD(target=TargetConfig(inv_temp=1.0, power=4.0), sampling=SamplingConfig(temperature=0.25))
"""p^4 exp(R), by proposals that are nearly greedy: where the model itself is the better judge."""
CALLS = CHAIN.inits + CHAIN.steps


def get_config() -> DecodingStudy:
    methods: dict[str, Decoder] = {
        "greedy": DECODERS["greedy"].make(),
        "sampling": DECODERS["sampling"].make(),
        "ebd": CHAIN,
        "ebd_sharp": SHARP,
        # As many rewards as the chain asks for; it draws more tokens.
        "best_of_n": BestOfN(samples=CALLS),
        "qalign": DECODERS["qalign"].make(),
        "power": DECODERS["power"].make(),
        "power_smc": DECODERS["power_smc"].make(),
    }
    return DecodingStudy(
        name="ebd_problems",
        model=PROBLEMS,
        methods=methods,
        tasks=("sums", "countdown"),
        reward=(
            RewardChoice(kind="likelihood", name=SECOND),
            RewardChoice(name="runs/ebd/problems_reward", steps=" ", over="least"),
        ),
        max_new_tokens=64,
        seeds=(0, 1, 2),
        at_once=64,
    )
