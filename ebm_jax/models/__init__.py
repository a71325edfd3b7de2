"""Networks as Linen modules, pure in their parameters.

* ``sizes``        the paper's sizes, 4xs to xl
* ``transformer``  what every transformer here has in common: its configuration and the resolved block shape
* ``lm``           Transformer++, the feed-forward baseline
* ``ebt``          the autoregressive Energy-Based Transformer
"""
