"""Energy-Based Decoding of Mistral-7B-v0.3 on the paper's six benchmarks, beside direct and power sampling and the best of N.

Command:  python -m experiments.decode configs/ebd/mistral_7b.py mesh.rules=fsdp_tp precision.compute=bfloat16
Expected: experiments/paper/published_ebd.py has what is told of the paper; not run here.
Hardware: eight accelerators of 80 GB; the model, the reward model and the benchmarks' files.
"""

from configs.decoding import published
from ebm_jax.decoding_study import DecodingStudy


def get_config() -> DecodingStudy:
    return published("mistral_7b", "mistralai/Mistral-7B-v0.3")
