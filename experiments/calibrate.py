"""Says which inverse temperature suits a reward: how often chains would move at it, and how many samples would count.

usage: python -m experiments.calibrate CONFIG [samples=16] [targets=0.1,0.3,0.5] [key=value ...]

CONFIG is a study as experiments.decode takes it. Draws plain samples of its prompts, which should be others than those that
it is run on (prompts.skip=), asks its reward, and prints the inverse temperatures at which a response that is drawn whole is
accepted as often as each target says, and at which as large a share of the samples counts (``decoders.calibration``). Set one
by methods.NAME.target.inv_temp=, or for all methods at once by scale.scale=, which divides every reward.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ebm_jax import cli
from ebm_jax.decoders.calibration import accepted_share, calibrated, effective_share
from ebm_jax.decoding_study import DecodingStudy, plain_samples
from ebm_jax.errors import UserError
from ebm_jax.overrides import override
from ebm_jax.reporting.markdown import markdown_table

Share = Callable[[np.ndarray, float], float]


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """How much is drawn, and what is asked for."""

    samples: int = 16
    targets: tuple[float, ...] = (0.1, 0.3, 0.5)


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("samples", "targets"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one config is expected: python -m experiments.calibrate CONFIG [key=value ...]")
    study = override(cli.load_config(parts.positionals[0], DecodingStudy), parts.overrides)
    options = override(CalibrateOptions(), [f"{key}={value}" for key, value in parts.options.items()])
    rewards_PxN = plain_samples(study, options.samples).rewards_PxN
    spread = float(np.mean(rewards_PxN.std(axis=1)))
    print(f"rewards {rewards_PxN.mean():.3f}, within a prompt +- {spread:.3f}; {options.samples} samples of a prompt\n")
    rows = [
        [f"{target:g}", *(_told(rewards_PxN, target, share) for share in (accepted_share, effective_share))]
        for target in options.targets
    ]
    print(markdown_table(["target", "inv_temp by acceptance", "inv_temp by effective share"], rows))
    return 0


def _told(rewards_PxN: np.ndarray, target: float, share: Share) -> str:
    try:
        return f"{calibrated(rewards_PxN, target, share):.3g}"
    except UserError as error:
        return str(error).split(":")[0]


if __name__ == "__main__":
    sys.exit(cli.main(main))
