"""How large a sweep file, and what it asks for, may be."""

from __future__ import annotations

MAX_RUNS = 20_000_000
# Values of an axis that is no seed: of these each is checked, labelled and kept by itself.
MAX_VALUES = 50_000
# Combinations of what may decide the program: of each it is found out which one it needs.
MAX_CELLS = 50_000
# Each takes seconds to compile.
MAX_PROGRAMS = 1_000
MAX_ORACLES = 1_000
MAX_GRIDS = 100
MAX_LEVELS = 100
MAX_BYTES = 2**20
MAX_DEPTH = 32
# Mistakes that are listed; of a file with more of them the others are counted.
MAX_LISTED = 50
LONGEST_NAME = 64
