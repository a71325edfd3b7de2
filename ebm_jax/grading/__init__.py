"""Grading of what a model wrote, on the host alone: nothing here imports JAX.

::

    answers       final answers of GSM8K, MATH and multiple choice
    maths         equivalence of two mathematical answers, symbolic, within a time limit
    translation   BLEU and chrF by sacrebleu, COMET where it is installed
    pass_at_k     the unbiased estimator over samples of one problem
    code_blocks   the program in a completion
    instructions  the checkable instructions of IFEval
    sandbox       untrusted code run and tested behind walls
    unit_tests    the tests of a program as one whole, or counted one by one
    rewards       all of these as rewards for reinforcement learning
"""
