"""Energy descent: prediction by gradient steps on an energy, written once for every kind of candidate.

* ``spaces``    how a state becomes the network's input, and its gradient the next state
* ``schedule``  how many steps, on which landscape, how long, how noisy: ``DescentConfig`` and its draws
* ``descent``   one inner step, and the loop that users run (differentiable in the ordinary way)
* ``objective`` the training loss over detached steps, its gradient accumulated step by step: flat memory, least FLOPs
* ``replay``    the ring of finished chains that later batches continue
* ``thinking``  more steps, and the best of several candidates by energy
"""
