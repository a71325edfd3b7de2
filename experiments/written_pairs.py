"""Pairs for a reward model: the true continuation of a text, and what a language model writes in its place.

usage: python -m experiments.written_pairs MODEL file=TEXTS out=FILE.jsonl.gz [field=text] [words=20,40] [count=4000]
                                           [skip=0] [max_new_tokens=64] [seed=0] [at_once=64]

TEXTS are JSON lines with a text in ``field``; its first words are the prompt, as many as each of ``words`` says. A row of
FILE has prompt, chosen (as many tokens of the text as the model wrote) and rejected: data.source=pairs:FILE
data.examples.prompt={prompt}. The classifier of such pairs estimates log p_true / p_model, which is the tilt that would make
the model's texts true ones. Rows are left out where the text ends with its prompt, and where a tokenizer would join the prompt
with what follows; they are counted.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from ebm_jax import cli
from ebm_jax.data.files import write_rows
from ebm_jax.data.paths import expand
from ebm_jax.decoders.best_of_n import BestOfN
from ebm_jax.decoders.run import decode
from ebm_jax.decoding_study import PromptsConfig, read_prompts
from ebm_jax.errors import UserError
from ebm_jax.language_model import LanguageModel, open_model
from ebm_jax.overrides import override


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """What is written."""

    file: str
    out: Path
    field: str = "text"
    words: tuple[int, ...] = (20,)
    count: int = 4000
    skip: int = 0
    max_new_tokens: int = 64
    seed: int = 0
    at_once: int = 64


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("file", "out"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    if len(parts.positionals) != 1 or not parts.options.keys() >= {"file", "out"}:
        raise UserError(
            "a model, file= and out= are expected: python -m experiments.written_pairs MODEL file=TEXTS out=FILE"
        )
    given = PairOptions(file=parts.options["file"], out=Path(parts.options["out"]))
    options = override(given, parts.overrides)
    model = open_model(str(expand(parts.positionals[0])))
    rows = [row for words in options.words for row in _pairs(model, options, words)]
    kept = [row for row in rows if all(row.values()) and not _joined(model, row)]
    if not kept:
        raise UserError(f"no text of {options.file} goes on behind words={options.words}: give fewer")
    write_rows(options.out, kept)
    print(f"{len(kept)} pairs in {options.out}; {len(rows) - len(kept)} left out")
    return 0


def _pairs(model: LanguageModel, options: PairOptions, words: int) -> list[dict[str, str]]:
    asked = PromptsConfig(
        file=options.file, field=options.field, truth=options.field, words=words, count=options.count, skip=options.skip
    )  # fmt: skip
    prompts, texts = read_prompts(asked)
    found = decode(
        model, prompts, BestOfN(samples=1), max_new_tokens=options.max_new_tokens, seed=options.seed, at_once=options.at_once,
        report=print,
    )  # fmt: skip
    rows = []
    for prompt, text, sample in zip(prompts, texts, found.samples, strict=True):
        begun, written = str(prompt.text), sample.responses[0]
        true = model.tokenizer.encode(text)[len(model.tokenizer.encode(begun)) :][: len(written.tokens)]
        rows.append({"prompt": begun, "chosen": _text(model, begun, true.tolist()), "rejected": written.text})
    return rows


def _text(model: LanguageModel, begun: str, tokens: list[int]) -> str:
    """What tokens say behind a beginning."""
    return model.tokenizer.decode([*model.tokenizer.encode(begun).tolist(), *tokens])[len(begun) :]


def _joined(model: LanguageModel, row: dict[str, str]) -> bool:
    """Whether one of the two does not begin with a token of its own."""
    of = lambda text: model.tokenizer.encode(text).tolist()
    begun = of(row["prompt"])
    return any(of(row["prompt"] + row[key])[: len(begun)] != begun for key in ("chosen", "rejected"))


if __name__ == "__main__":
    sys.exit(cli.main(main))
