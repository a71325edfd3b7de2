"""Learns a subword vocabulary from the training documents of a config's corpus.

usage: python -m experiments.tokenizer CONFIG vocab=N out=FILE [key=value ...]

Writes byte-level byte-pair encoding as a tokenizer.json; train with it by data.tokenizer=hf:FILE. Held-out documents have no
part in it, and the config's own data.tokenizer does not matter.
"""

import sys
from pathlib import Path

from ebm_jax import cli
from ebm_jax.data.make_tokenizer import learn_vocabulary
from ebm_jax.errors import UserError
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.overrides import override


def main(argv: list[str]) -> int:
    parts = cli.arguments(argv, options=("vocab", "out"))
    if "--help" in parts.flags:
        print(__doc__)
        return 0
    vocab, out = parts.options.get("vocab", ""), parts.options.get("out")
    if len(parts.positionals) != 1 or not vocab.isdigit() or out is None:
        raise UserError(
            "a config, a size and a file are expected: python -m experiments.tokenizer CONFIG vocab=N out=FILE"
        )
    config = override(cli.load_config(parts.positionals[0], ExperimentConfig), parts.overrides)
    found = learn_vocabulary(config.data, int(vocab), Path(out))
    print(f"wrote {found} tokens learned from {config.data.source} to {out}: use it by data.tokenizer=hf:{out}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(main))
