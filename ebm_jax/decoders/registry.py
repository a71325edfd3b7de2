"""All ways of decoding by name: what each samples, whether it does so exactly, what it costs, and where it is.

``docs/decoding.md`` is written from here, and a test holds the two together.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.controlled import BlockwiseControl, ControlledDecoding, ProxyTuning
from ebm_jax.decoders.ebd import EBD
from ebm_jax.decoders.lookahead import ETS, ScalablePower
from ebm_jax.decoders.power import PowerSampling
from ebm_jax.decoders.rejection import SpeculativeRejection
from ebm_jax.decoders.smc import SMC
from ebm_jax.decoders.tempering import Tempering
from ebm_jax.decoders.tokenwise import ARGS
from ebm_jax.decoding.markov.acceptance import TargetConfig
from ebm_jax.decoding.markov.cuts import CutConfig
from ebm_jax.decoding.sampling import SamplingConfig
from ebm_jax.errors import UserError

Decoder = (
    BestOfN
    | EBD
    | PowerSampling
    | SMC
    | ETS
    | ScalablePower
    | SpeculativeRejection
    | Tempering
    | ARGS
    | ControlledDecoding
    | ProxyTuning
    | BlockwiseControl
)
"""The settings of any way of decoding."""
SIZES = {
    BestOfN: "samples",
    EBD: "steps",
    PowerSampling: "steps",
    SMC: "particles",
    ETS: "candidates",
    ScalablePower: "candidates",
    SpeculativeRejection: "samples",
    Tempering: "steps",
    ARGS: "top_k",
    BlockwiseControl: "candidates",
}
"""The setting that a budget fixes."""
TILT = "p exp(lambda R)"
POWER = "p^alpha"


@dataclass(frozen=True)
class Entry:
    """A way of decoding."""

    make: Callable[[], Decoder]
    """Its settings by default."""
    paper: str
    target: str
    exact: str
    """Whether it samples that law: exactly, in a limit, or not."""
    cost: str
    """In responses of mean length T and calls of the reward."""
    rewarded: bool = True
    """Whether it asks for a reward."""


def _qalign() -> EBD:
    return EBD(target=TargetConfig(inv_temp=2.0), cuts=CutConfig(law="length"), inits=1, steps=128, output="least_risk")


def _iterated() -> EBD:
    # One place to cut at, the first: every try is a whole response.
    cuts = CutConfig(law="horizon")
    return EBD(cuts=cuts, inits=1, steps=4, tries=4, rule="resample", blocks=1, grid_from="horizon")


def _entropy_cuts() -> EBD:
    target, half = TargetConfig(inv_temp=0.0, power=4.0), SamplingConfig(temperature=0.25)
    return EBD(target=target, sampling=half, cuts=CutConfig(law="scored"), inits=1, steps=10)


DECODERS: dict[str, Entry] = {
    "greedy": Entry(
        lambda: BestOfN(samples=1, sampling=SamplingConfig(temperature=0)),
        "", "the likeliest next token", "yes", "T", False,
    ),
    "sampling": Entry(lambda: BestOfN(samples=1), "", "p", "yes", "T", False),
    "best_of_n": Entry(BestOfN, "", "the best of N from p", "yes", "N T, N calls"),
    "likeliest_of_n": Entry(
        lambda: BestOfN(pick="likely", samples=32), "", "the likeliest of N from p", "yes", "N T", False
    ),
    "sir": Entry(
        lambda: BestOfN(pick="weigh"), "Rubin 1987", TILT, "as N grows (bias of order 1 / N)", "N T, N calls"
    ),
    "iterated_sir": Entry(
        _iterated, "Andrieu et al. 2010", TILT, "yes, as a chain", "(1 + K M) T, as many calls"
    ),
    "ebd": Entry(EBD, "arXiv 2605.28020", TILT, "yes, as a chain", "(n + K (M + 1) / 2 M) T, n + K calls"),
    "multi_try": Entry(
        lambda: EBD(tries=4, steps=3), "Liu et al. 2000", TILT, "yes, as a chain", "(n + 0.54 K m) T, n + K m calls"
    ),
    "delayed_acceptance": Entry(
        lambda: EBD(delayed=True), "Christen and Fox 2005", TILT, "yes, as a chain",
        "as ebd, fewer dear calls",
    ),
    "tempering": Entry(Tempering, "Geyer 1991", TILT, "yes, as a chain", "(L + K (L + 1) / 2) T, L (1 + K) calls"),
    "qalign": Entry(
        _qalign, "arXiv 2504.03790", TILT + ", then the least risk of the chain", "the chain, yes",
        "(1 + K / 2) T, 1 + K calls",
    ),
    "reward_smc": Entry(SMC, "arXiv 2604.16453", TILT, "as the particles grow", "N T and moves, a call a block"),
    "ets": Entry(
        ETS, "arXiv 2601.21484", TILT, "as candidates and rollouts grow", "M T + M K T / 2 a block"
    ),
    "controlled": Entry(
        ControlledDecoding, "arXiv 2310.17022", "p(z) exp(lambda Q(z)), token by token",
        "only for Q = log E exp(lambda R) / lambda", "T", False,
    ),
    "blockwise_control": Entry(
        BlockwiseControl, "arXiv 2310.17022", "the block of the most value, of K", "no law of whole responses",
        "K T, K calls a block",
    ),
    "args": Entry(
        ARGS, "arXiv 2402.01694", "logit + w R, token by token", "no law of whole responses", "T, k calls a token"
    ),
    "speculative_rejection": Entry(
        SpeculativeRejection, "arXiv 2410.20290", "the best of N, worse halves given up early", "no",
        "less than N T, a call a block",
    ),
    "proxy_tuning": Entry(
        ProxyTuning, "arXiv 2401.08565", "logits + a (expert - anti-expert)", "yes", "T, of three models", False
    ),
    "power": Entry(PowerSampling, "arXiv 2510.14901", POWER, "yes, as a chain", "T + N T^2 / 4 B", False),
    "power_released": Entry(
        lambda: PowerSampling(compat="rws"), "arXiv 2510.14901, its code", POWER, "no: responses shrink", "T + N T^2 / 4 B",
        False,
    ),
    "entropy_cuts": Entry(
        _entropy_cuts, "arXiv 2605.30327", POWER, "yes, as a chain", "(1 + K / 2) T", False
    ),
    "power_smc": Entry(
        lambda: SMC(
            target=TargetConfig(inv_temp=0.0, power=4.0), sampling=SamplingConfig(temperature=0.25), particles=32, ramp=400,
        ),
        "arXiv 2602.10273", POWER, "as the particles grow", "N T and moves", False,
    ),
    "scalable_power": Entry(
        ScalablePower, "arXiv 2601.21590", POWER, "as candidates and rollouts grow", "L T + L M A a block", False
    ),
}  # fmt: skip

MISSING = {
    "CARDS": "segments that end where the entropy is high, each accepted by a threshold (biased)",
    "AWRS (arXiv 2504.05410)": "exact sampling under a constraint on tokens",
    "RankGen, A*-decoding (arXiv 2505.13672)": "search by an encoder or a process reward",
    "TreeBoN, STARS, APPS (arXiv 2605.02427), EGPS (arXiv 2606.09926)": "variants of what is here by segments and trees",
    "ETS with a small model's rollouts": "ETS here draws rollouts from the model itself",
    "lookahead target of reward SMC": "its prefix-only target is here",
}
"""Methods of the literature that are not here."""


def size_of(method: Decoder) -> str:
    """The setting that a budget fixes; empty where there is none: one sample is one sample."""
    if isinstance(method, BestOfN) and method.samples == 1:
        return ""
    return SIZES.get(type(method), "")


def get_decoder(name: str) -> Entry:
    """The entry of that name.

    Raises:
      UserError: there is none.
    """
    if name not in DECODERS:
        raise UserError(f"decoder={name!r} is not one of {', '.join(DECODERS)}")
    return DECODERS[name]


METHODS = "## Methods"
"""The heading of what is written from here in ``docs/decoding.md``."""


def page(text: str) -> str:
    """``docs/decoding.md`` with its methods written anew."""
    lines = [
        text.partition(METHODS)[0] + METHODS, "",
        "Names are those of `DECODERS` in `ebm_jax.decoders.registry`, as configs under `configs/ebd` use them. p is the",
        "model's law of whole responses, R the reward, T the mean length of a response. A small draft model may write ahead",
        "of any of them (`draft=`, Leviathan et al. 2023), at no change of law.", "",
        "| name | paper | samples | exactly | costs a prompt | module |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, entry in DECODERS.items():
        module = type(entry.make()).__module__
        cells = (f"`{name}`", entry.paper or "-", entry.target, entry.exact, entry.cost, f"`{module}`")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Not here:", "", *(f"* {name}: {what}." for name, what in MISSING.items()), ""]
    return "\n".join(lines)
