"""Methods at equal cost: the size of each that a budget of generated tokens and reward calls allows."""

from dataclasses import dataclass, replace
from typing import Any

from ebm_jax.decoders.job import Cost, Method
from ebm_jax.errors import UserError

MOST = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a prompt may cost in the mean; 0 is no limit."""

    tokens: float = 0.0
    reward_calls: float = 0.0

    def __post_init__(self) -> None:
        if self.tokens < 0 or self.reward_calls < 0:
            raise UserError(
                f"budget.tokens={self.tokens} and budget.reward_calls={self.reward_calls} must not be negative"
            )

    def holds(self, cost: Cost) -> bool:
        """Whether it is enough for that."""
        return all(
            not most or spent <= most
            for most, spent in ((self.tokens, cost.tokens), (self.reward_calls, cost.reward_calls))
        )


def fitted(method: Method, size: str, budget: Budget, length: float, horizon: int) -> Any:
    """The method with its setting ``size`` as large as the budget allows, by what it is expected to cost.

    The size is fixed before anything is drawn, by responses' mean ``length``: one that is chosen by what a prompt has cost so
    far would change the law that is sampled.

    Raises:
      UserError: not even a size of 1 fits.
    """
    cost = lambda n: replace(method, **{size: n}).cost(length, horizon)  # type: ignore[type-var]
    if not budget.holds(cost(1)):
        least = cost(1)
        raise UserError(
            f"the budget of {budget.tokens:g} tokens and {budget.reward_calls:g} reward calls is too small for"
            f" {type(method).__name__}: with decoder.{size}=1 it costs {least.tokens:.0f} tokens and"
            f" {least.reward_calls:.0f} calls"
        )
    low, high = 1, 2
    while high < MOST and budget.holds(cost(high)):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if budget.holds(cost(middle)) else (low, middle)
    return replace(method, **{size: low})  # type: ignore[type-var]
