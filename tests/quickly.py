"""How tests compile what runs once: with none of the passes that make code faster.

``make test`` says the same for all that it runs, in ``XLA_FLAGS``; who starts pytest by hand has it
from here where it matters most.
"""

QUICKLY = {"xla_backend_optimization_level": 0}
