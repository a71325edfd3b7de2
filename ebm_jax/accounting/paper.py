"""FLOPs per token by formula (EBT appendix D.5); N = parameters without vocabulary matrices.

=======================  =============================================  =======================
                         training, per token                            over Transformer++ (6N)
=======================  =============================================  =======================
Transformer++            F + B = 2N + 4N = 6N                           1
EBT, the paper's rule    K steps of F + B + B, twice the sequence: 20NK 3.33 K
EBT, corrected           context 2N + 4N a step, candidates 12N: 18NK   3 K
EBT, shared context      6N + 12NK                                      1 + 2 K
=======================  =============================================  =======================

None counts attention or the vocabulary matrices; ``flops.count_flops`` does.
"""


def transformer_training(parameters: int) -> int:
    """6N."""
    return 6 * parameters


def ebt_training_paper(parameters: int, steps: int) -> int:
    """20NK: a Hessian-vector product taken as one backward pass, the sequence doubled by the candidates."""
    return 20 * parameters * steps


def ebt_training_corrected(parameters: int, steps: int, contexts: int) -> int:
    """6N for each context pass and 12N for each inner step: no weight gradients in the inner backward pass."""
    return 6 * parameters * contexts + 12 * parameters * steps


def ebt_inference(parameters: int, steps: int, candidates: int = 1) -> int:
    """Per new token with a cached context: 4N a step and candidate, 2N for a final energy when candidates compete."""
    verify = 2 * parameters * candidates if candidates > 1 else 0
    return 2 * parameters + 4 * parameters * steps * candidates + verify
