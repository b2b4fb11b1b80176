"""Throughput, measured; nothing here asserts."""
