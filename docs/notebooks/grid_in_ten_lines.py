# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A grid in ten lines
#
# Two algorithms, two kinds of feedback, four levels of noise, 64 seeds: 1,024 training runs. The
# axes are a dictionary, and the result is an xarray data set with an axis for each of them. What
# else can be an axis is in [Sweeps](../sweeps.md).

# %%
import matplotlib.pyplot as plt

import sdpo_jax

data = sdpo_jax.run_grid(
    {
        "algorithm": ["sdpo", "reinforce"],
        "oracle": ["binary", "continuous"],
        "noise": [0.0, 0.1, 0.2, 0.3],
        "seed": range(64),
    },
    record=["reward"],
)
data

# %% [markdown]
# ## What came out
#
# `reward`, `credit` and `entropy` are final values; `reward_curve` has one more axis, the step.
# The mean over the seeds is a line of xarray:

# %%
data.reward.mean("seed").sel(noise=0.1).to_pandas().round(3)

# %% [markdown]
# The seed is the unit of every interval in `sweeps.statistics`, and it is the last axis. Runs of
# one seed share their problem, first policy and random numbers, so a difference within a seed is
# free of what they share:

# %%
from sweeps import statistics

ahead = statistics.paired_difference(
    data.reward.sel(algorithm="sdpo"), data.reward.sel(algorithm="reinforce")
)
for number, oracle in enumerate(data.oracle.values):
    one = ahead[number, 0]
    print(f"lead on {oracle} feedback: {one.estimate:+.3f} [{one.low:+.3f}, {one.high:+.3f}]")

# %% [markdown]
# ## As a figure

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
curves = data.reward_curve.sel(oracle="continuous", noise=0.0)
for name in data.algorithm.values:
    found = statistics.mean(curves.sel({"algorithm": name}).transpose("step", "seed"))
    axes[0].plot(data.step, found.estimate, label=name)
    axes[0].fill_between(data.step, found.low, found.high, alpha=0.3)
axes[0].set(xlabel="step", ylabel="reward", title="continuous feedback, no noise")
axes[0].legend()
for oracle in data.oracle.values:
    entropy = data.entropy.sel({"algorithm": "sdpo", "oracle": oracle}).mean("seed")
    axes[1].plot(data.noise, entropy, marker="o", label=oracle)
axes[1].set(xlabel="noise of the oracle", ylabel="final entropy, nats", title="SDPO")
axes[1].legend()
plt.show()

# %% [markdown]
# The band is the 95% interval of the mean. A run is named by its seed alone: the same seed in
# another grid has the same bits.
#
# ## Larger ones
#
# The same dictionary given to `sweeps.run` is trained into a folder, which can be interrupted,
# gone on with, worked on by many processes, and opened at any time:
#
# ```python
# import sweeps
#
# data = sweeps.run({"noise": [0.0, 0.1, 0.3], "seed": range(1000)}, "results/noise")
# ```
