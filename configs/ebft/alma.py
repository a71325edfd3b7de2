"""Energy-based fine-tuning on translations from German, of a real pretrained model of English stories, beside SFT and RLVR.

Command:  python -m experiments.finetune configs/ebft/alma.py
Expected: nothing was measured with this file yet. So small a model learns how English news are written, not to translate.
Hardware: 2 CPU cores; the files of $EBM_JAX_DATA.
"""

from dataclasses import replace

from configs.pretrained import STORIES, stories, tokenizer
from configs.side_by_side import every_length, graded, side_by_side
from ebm_jax.comparison import Comparison
from ebm_jax.data.config import DataConfig
from ebm_jax.data.example_config import ExamplesConfig
from ebm_jax.decoding.anchors import AnchorConfig
from ebm_jax.evals.continuations import MatchingConfig
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.grading.rewards import RewardConfig
from ebm_jax.optim import OptimConfig
from ebm_jax.training.config import TrainConfig

LINE = RewardConfig(kind="bleu", first_line=True)
WHOLE = AnchorConfig(places="starts", steps=96, most=4)


def get_config() -> Comparison:
    examples = ExamplesConfig(
        directions=("de-en",), prompt="{source_language}: {source}\n{target_language}:", completion=" {target}\n"
    )
    ebft = ExperimentConfig(
        name="alma",
        model=stories(),
        algorithm=replace(every_length(gamma=0.5, alpha=0.5), anchors=AnchorConfig(places="answers")),
        data=DataConfig(
            source="sft:$EBM_JAX_DATA/mt_alma/train.de-en.jsonl.gz",
            tokenizer=tokenizer(STORIES),
            examples=examples,
            context=256,
            prepend_bos=True,
            append_eos=True,
            validation_fraction=0.02,
            test_fraction=0.0,
        ),
        optim=OptimConfig(peak_lr=1e-3, warmup_steps=10, decay_steps=200, b2=0.99, weight_decay=0.0),
        train=TrainConfig(steps=200, batch_size=8, log_every=10, eval_every=50, eval_batches=8, checkpoint_every=100),
        eval=EvalConfig(batch_size=16),
        weights=STORIES,
    )
    compared = side_by_side(ebft, rlvr_lr=3e-4)
    rlvr = compared.methods["rlvr"]
    rlvr = replace(rlvr, algorithm=replace(rlvr.algorithm, reward=LINE, anchors=WHOLE, end="mask_after"))
    return replace(
        compared,
        methods=compared.methods | {"rlvr": rlvr},
        matching=MatchingConfig(lengths=(1, 2, 4, 8, 16, 32), anchors=2048, per_row=16, places="answers"),
        tasks=graded(LINE, WHOLE, rows=256),
    )
