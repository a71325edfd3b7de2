"""Energy-Based Decoding as its paper compares it: direct sampling, power sampling and the chain, on six benchmarks."""

from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.power import PowerSampling
from ebm_jax.decoders.registry import Decoder
from ebm_jax.decoding_study import DecodingStudy, RewardChoice

REWARD = "Skywork/Skywork-Reward-V2-Qwen3-0.6B"
"""Of the family whose sizes (0.6 to 8 B) the paper sweeps; it does not name its own."""
BENCHMARKS = ("math500", "humaneval", "gpqa", "alpacaeval", "mtbench", "writingbench")
CHAIN = EBD()
"""lambda 3.5, the best of 4, 12 steps, 12 blocks: what is told of the paper."""


def published(name: str, model: str, reward: str = REWARD) -> DecodingStudy:
    """One base model on all benchmarks; the last three need a judge, and write their answers without one."""
    methods: dict[str, Decoder] = {
        "direct": BestOfN(samples=1),
        "power": PowerSampling(),
        "ebd": CHAIN,
        # As many rewards as the chain asks for.
        "best_of_n": BestOfN(samples=CHAIN.inits + CHAIN.steps),
    }
    return DecodingStudy(
        name=f"ebd_{name}",
        model=model,
        methods=methods,
        tasks=BENCHMARKS,
        reward=(RewardChoice(kind="model", name=reward),),
        max_new_tokens=3072,
        at_once=32,
    )
