"""How algorithms credit tokens and rollouts: baselines, clipped ratios, preferences, values."""
