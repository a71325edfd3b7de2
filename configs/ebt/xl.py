"""EBT S1 at the paper's largest size: 705 M parameters without the vocabulary (EBT, table D.1).

Paper:    xl is the largest size of table D.1, with its learning rate of 2e-4; the text figures end at large. Data, context,
          batch and steps are those of the FineWeb run (configs/ebt/fineweb_small.py).
Command:  python -m experiments.pretrain configs/ebt/xl.py data.tokenizer=hf:20B_tokenizer.json workdir=runs/xl
          On several slices: mesh.data=SLICES, so that weights are gathered inside a slice.
Expected: no figure is published for text at this size.
Hardware: laid out for 256 chips, one row of the batch on each: weights split over all of them, blocks rematerialised.
          Compiled for 256 v5e chips (docs/scaling.md): 4.1 of 16 GiB on each. Chips with 32 GiB or more have room for
          train.local_gradients=true, which sends a tenth. Not run on them.
"""

from configs.corpora import fineweb, paper_texts
from configs.recipes import paper_optim, paper_s1, paper_train
from ebm_jax.evals.perplexity import EvalConfig
from ebm_jax.experiment import ExperimentConfig
from ebm_jax.models.transformer import TransformerConfig
from ebm_jax.parallel.mesh import MeshConfig


def get_config() -> ExperimentConfig:
    return ExperimentConfig(
        name="ebt_xl",
        seed=33,
        model=TransformerConfig(size="xl", remat="full"),
        algorithm=paper_s1(),
        data=fineweb(),
        optim=paper_optim("xl"),
        train=paper_train(steps=500_000, batch_size=256),
        eval=EvalConfig(batch_size=256, extra=paper_texts()),
        mesh=MeshConfig(data=1, fsdp=-1, rules="fsdp"),
    )
