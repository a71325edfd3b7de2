"""What a run costs: matrix-product FLOPs counted through loops, the paper's formulas, and utilisation.

XLA's own cost analysis counts a loop's body once, however often it runs. ``flops`` therefore counts a program's jaxpr, loops
multiplied by their lengths, and offers XLA's figure for programs without loops as a cross-check. ``paper`` holds the EBT
paper's rule and the corrected one; ``utilisation`` divides by what the hardware could do.
"""
