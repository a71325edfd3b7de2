"""Energy-Based Decoding of Qwen3-8B-Base on the paper's six benchmarks, beside direct and power sampling and the best of N.

Command:  python -m experiments.decode configs/ebd/qwen3_8b.py mesh.rules=fsdp_tp precision.compute=bfloat16
Expected: experiments/paper/published_ebd.py has what is told of the paper; not run here.
Hardware: eight accelerators of 80 GB; the model, the reward model and the benchmarks' files.
"""

from configs.decoding import published
from ebm_jax.decoding_study import DecodingStudy


def get_config() -> DecodingStudy:
    return published("qwen3_8b", "Qwen/Qwen3-8B-Base")
