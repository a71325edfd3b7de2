"""How much of a step is signal: methods compared by their gradients at the model that all begin with, before a run is paid for.

usage: python -m experiments.gradient_noise CONFIG [batches=32] [only=METHOD,...] [key=value ...]

CONFIG is a comparison, such as configs/ebft/ablation/small_credit.py; keys change it as with experiments.finetune. A row's
figures say how much of that method's noisy step goes where the method of the column would go without noise, 1 being all of
it (ebm_jax/gradient_noise.py has the equation). In its own column stands the root of signal over second moment. What a
run of T steps can gain for the column's loss grows as T times the square.
"""

import math
import sys

from ebm_jax import cli
from ebm_jax.comparison import Comparison
from ebm_jax.errors import UserError
from ebm_jax.experiment import open_experiment
from ebm_jax.gradient_noise import Efficiency, batch_gradients, efficiencies
from ebm_jax.parallel.multihost import is_main
from ebm_jax.parallel.processes import initialize, together
from ebm_jax.reporting.markdown import markdown_table
from ebm_jax.reporting.numbers import si
from experiments.finetune import changed

BATCHES = "32"


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("batches", "only", "distributed"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1:
        raise UserError("one config is expected: python -m experiments.gradient_noise CONFIG [key=value ...]")
    found = cli.load_and_call(parts.positionals[0], "get_config")
    if not isinstance(found, Comparison):
        raise UserError(
            f"{parts.positionals[0]}: get_config() returned {type(found).__name__}, and a comparison is expected"
        )
    methods = changed(found, parts.overrides).methods
    names = [name for name in parts.options.get("only", "").split(",") if name] or list(methods)
    if unknown := [name for name in names if name not in methods]:
        raise UserError(f"{', '.join(unknown)}: the methods are {', '.join(methods)}")
    asked = parts.options.get("batches", BATCHES)
    if not asked.isdecimal():
        raise UserError(f"batches={asked!r} must be a whole number")
    initialize(parts.options.get("distributed"))
    with together():
        gradients, flops = {}, {}
        for name in names:
            experiment = open_experiment(methods[name])
            gradients[name], flops[name] = batch_gradients(experiment, int(asked)), experiment.training_flops()
            if is_main():
                print(f"{name}: {asked} batches", file=sys.stderr)
        if is_main():
            rows = [
                [name, si(flops[name]).replace("\u00a0", " "), *(shown(of[target]) for target in names)]
                for name, of in efficiencies(gradients).items()
            ]
            print(markdown_table(["step of", "FLOPs", *(f"for {name}" for name in names)], rows))
    return 0


def shown(efficiency: Efficiency) -> str:
    """``0.041 ± 0.009``: the estimate and its standard error, where the target has a signal at all."""
    if math.isnan(efficiency.value):
        return "no signal found"
    return f"{efficiency.value:.3f} ± {efficiency.error:.3f}"


if __name__ == "__main__":
    sys.exit(cli.main(main))
