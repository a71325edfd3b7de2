"""Energy-Based Decoding of Qwen2.5-7B by its shapes alone, to be looked at and not run: no file of the model is needed.

Command:  python -m experiments.dryrun configs/ebd/serving_7b.py topology=v5e:2x4
Expected: docs/scaling.md
Hardware: laid out for eight chips: heads, hidden units and vocabulary divided over them.
"""

from configs.decoding import CHAIN
from configs.pretrained import QWEN_7B_TOKENS, qwen_7b
from ebm_jax.algorithms.lm import LMConfig
from ebm_jax.data.config import DataConfig
from ebm_jax.decoding_study import DecodingStudy, PromptsConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.parallel.mesh import MeshConfig
from ebm_jax.precision import Precision


def get_config() -> DecodingStudy:
    model = ExperimentConfig(
        name="serving_7b",
        model=qwen_7b(),
        algorithm=LMConfig(),
        data=DataConfig(context=4096),
        mesh=MeshConfig(data=1, fsdp=1, tensor=-1, rules="fsdp_tp"),
        precision=Precision(param="bfloat16", compute="bfloat16"),
        vocab_size=QWEN_7B_TOKENS,
    )
    return DecodingStudy(
        name="serving_7b",
        model=model,
        methods={"ebd": CHAIN},
        prompts=PromptsConfig(texts=("One prompt.",)),
        max_new_tokens=256,
        at_once=16,
    )
