"""Where the blocks of a sweep are computed, other than by threads of one process.

A block is named by its content, written in one step, and the same bits wherever it is computed. So
what travels is the path of a folder and names of blocks. ``work`` is a process of a job array: it
takes blocks that nobody has. ``cluster`` hands blocks to the processes of a Dask cluster.
"""


class Lost(ConnectionError):
    """The cluster can't be reached, or not any more. What was saved is kept."""


class GivenUp(ValueError):
    """Blocks whose processes ended again and again; all others are done."""
