"""The paper's unstated constants, inferred by simulation from all that it publishes."""
