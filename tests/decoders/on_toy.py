"""Methods run on the toy, and the laws of what they give."""

import jax
import numpy as np

from ebm_jax.decoders.account import Account
from ebm_jax.decoders.job import Decoded, Job, Method, engine_for
from ebm_jax.decoders.rewards import CallableReward, Scorer
from ebm_jax.evals.tasks.protocol import Prompt
from tests.decoders import toy_model
from tests.decoding.markov import toy

KEY = jax.random.key(5)
INDEX = {tokens: number for number, tokens in enumerate(toy.RESPONSES)}


def tokens_of(text: str, complete: bool) -> tuple[int, ...]:
    return (*map(int, text), *((toy.END,) if complete else ()))


def worth(prompt: Prompt, text: str, complete: bool) -> float:
    return toy.reward(tokens_of(text, complete))


def job(method: Method, numbers=range(1), reward=worth, cheap=None, model=None, of=None, draft=None) -> Job:
    numbers = list(numbers)
    engine = engine_for(method, model or toy_model.model(), toy.HORIZON, KEY, draft)
    return Job(
        engine=engine,
        scorer=None if reward is None else Scorer(CallableReward(reward)),
        prompts=[Prompt(text=str(n)) for n in numbers],
        tokens=[[0]] * len(numbers),
        numbers=numbers,
        key=KEY,
        account=Account.of(of or max(numbers) + 1),
        cheap=None if cheap is None else Scorer(CallableReward(cheap)),
    )


def run(method: Method, numbers=range(1), **how) -> tuple[Decoded, Job]:
    of = job(method, numbers, **how)
    return method.decode(of), of


def law_of(found: Decoded) -> np.ndarray:
    """Shares of all responses that there are; what a biased method gives besides is in none of them."""
    numbers = [INDEX[response.tokens] for response in found.responses if response.tokens in INDEX]
    return np.bincount(numbers, minlength=len(toy.RESPONSES)) / len(found.responses)


def expected(count: int) -> float:
    """Total variation of as many independent draws from the target."""
    return 1.139 / np.sqrt(count)
