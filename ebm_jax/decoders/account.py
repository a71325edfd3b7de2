"""What decoding costs, in one currency for all methods: tokens that were drawn and rewards that were asked for."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass
class Account:
    """Counters of every prompt, ``[prompts]`` each."""

    tokens: np.ndarray
    """Tokens drawn, those of rejected proposals included; neither padding nor what a step that does nothing leaves out."""
    passes: np.ndarray
    """Sequential decoding steps: the critical path."""
    read: np.ndarray
    """Prompt tokens that were read."""
    reward_calls: np.ndarray
    """Responses that the reward was asked for; what is remembered costs nothing."""
    reward_tokens: np.ndarray
    """Their tokens."""
    steps: np.ndarray
    """Moves of chains that drew something."""
    accepted: np.ndarray
    """Those of them that were accepted."""
    idle: np.ndarray
    """Moves that drew nothing, for they cut behind the end."""

    @classmethod
    def of(cls, prompts: int) -> "Account":
        """Nothing spent yet."""
        return cls(*(np.zeros(prompts, np.int64) for _ in fields(cls)))

    def add(self, name: str, prompt_X: np.ndarray, amount_X: np.ndarray | int) -> None:
        """Adds amounts of rows to their prompts' counters."""
        np.add.at(getattr(self, name), prompt_X, amount_X)

    def totals(self) -> dict[str, int]:
        return {field.name: int(getattr(self, field.name).sum()) for field in fields(self)}
