"""How EBFT gains with size: Qwen2.5-7B on questions and Python answers, no cross-entropy beside (the EBFT paper's figure 8).

Command:  hf download Qwen/Qwen2.5-7B --local-dir models/Qwen2.5-7B
          python -m experiments.finetune configs/ebft/scale_7b.py
          python -m experiments.evaluate runs/ebft_scale_7b/ebft/seed=0 tasks=humaneval
          python -m experiments.evaluate models/Qwen2.5-7B tasks=humaneval out=runs/ebft_scale_7b/base/tasks
          python -m experiments.paper.ebft_scale runs/ebft_scale_1_5b runs/ebft_scale_3b runs/ebft_scale_7b
Expected: HumanEval, greedy: 0.55 for the base model and 0.69 for EBFT.
Hardware: compiled for 256 v5e chips with train.batch_size=256 (docs/scaling.md): 13.4 of 16 GiB on each. Nothing was run.
"""

from dataclasses import replace

from configs.ebft.qa_code import TASK
from configs.feature_matching import ebft
from configs.pretrained import QWEN_7B, QWEN_7B_TOKENS, hub_tokenizer, qwen_7b
from ebm_jax.comparison import Comparison

SIZE = replace(
    TASK,
    name="ebft_scale_7b",
    model=qwen_7b(),
    weights=QWEN_7B,
    vocab_size=QWEN_7B_TOKENS,
    data=replace(TASK.data, tokenizer=hub_tokenizer(QWEN_7B)),
)


def get_config() -> Comparison:
    method = SIZE.run(ebft(gamma=0.0, alpha=1.0), epochs=2)
    return Comparison(name=SIZE.name, methods={"ebft": method}, matching=SIZE.matching())
