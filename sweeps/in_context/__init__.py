"""The study of a self-teacher that reads its feedback: ``python -m sweeps in_context``."""
