"""The paper reproduced: its experiments, tables and figures, and its claims judged."""
