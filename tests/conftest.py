"""No test, and no process that a test starts, uses the user's cache of compiled programs."""

import os

# Before JAX is imported, which reads it then.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"
