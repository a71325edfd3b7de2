"""A frozen model with a way of decoding, as benchmarks ask a model: every task of ``evals.tasks`` can be run on it."""

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ebm_jax.decoders.job import Method
from ebm_jax.decoders.rewards import Reward, ScaleConfig
from ebm_jax.decoders.run import decode
from ebm_jax.evals.tasks.protocol import Completion, LogLikelihood, Prompt
from ebm_jax.language_model import LanguageModel


@dataclass
class DecodedModel:
    """``evals.tasks.protocol.Model``: its temperature and filters are the method's own, whatever a task asks for."""

    model: LanguageModel
    method: Method
    reward: Reward | None = None
    cheap: Reward | None = None
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    draft: LanguageModel | None = None
    at_once: int = 16
    log: Path | None = None
    """Where what was spent is added to, a line for every call; see ``spent``."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int = 1,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> list[list[Completion]]:
        """For every prompt ``samples`` responses, each decoded anew; equal arguments give equal ones."""
        longest = max(len(self.model.encode(prompt)) for prompt in prompts)
        made: list[list[Completion]] = [[] for _ in prompts]
        # Tasks ask for few prompts at a time: those of another call draw other numbers.
        batch = zlib.crc32("\n".join(str(prompt.as_json()) for prompt in prompts).encode())
        total = {"prompts": samples * len(prompts)}
        for sample in range(samples):
            found = decode(
                self.model,
                prompts,
                self.method,
                max_new_tokens=max(1, min(max_new_tokens, self.model.context - longest)),
                reward=self.reward,
                cheap=self.cheap,
                scale=self.scale,
                seed=(batch + seed * samples + sample) % 2**31,
                at_once=self.at_once,
                draft=self.draft,
                stop=stop,
            )
            for one, completions in zip(found.samples, made, strict=True):
                response = one.responses[0]
                completions.append(Completion(response.text, len(response.tokens), finished=response.complete))
                for name, value in one.account.items():
                    total[name] = total.get(name, 0) + value
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(total) + "\n")
        return made

    def log_likelihood(self, pairs: Sequence[tuple[Prompt, str]]) -> list[LogLikelihood]:
        """The plain model's."""
        return self.model.log_likelihood(pairs)

    def misfit(self, prompt: Prompt, continuation: str | None = None) -> str:
        """The plain model's."""
        return self.model.misfit(prompt, continuation)


def spent(logs: Iterable[Path]) -> dict[str, int]:
    """Sums over all prompts, by the names of ``Account``, and their number as ``prompts``; {} where nothing was asked."""
    total: dict[str, int] = {}
    for line in (line for log in logs for line in log.read_text(encoding="utf-8").splitlines()):
        for name, value in json.loads(line).items():
            total[name] = total.get(name, 0) + value
    return total
