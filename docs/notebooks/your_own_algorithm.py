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
# # Your own algorithm
#
# From a function to a small league: an algorithm with a number of its own, in one grid with three
# that the library has, each judged at its own best setting. [Adding an
# algorithm](../adding_an_algorithm.md) has the same with tests of the gradient, and the way into
# the audit's league.
#
# ## The algorithm
#
# Parameters without a default name what it is told: here the policy, the sampled tokens and the
# oracle's feedback, and nothing of the truth. `tau` has a default, so it is a number of the
# algorithm's own, and an axis. It returns a descent gradient. Arrays have the runs behind their
# own axes: `feedback` is `[rollouts, *runs]`.

# %%
from typing import Annotated

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import sdpo_jax
from sweeps import statistics

Temperature = Annotated[float, sdpo_jax.Number(above=0, title="temperature")]


def reward_weighted(*, policy, tokens, feedback, tau: Temperature = 0.1):
    """Peters and Schaal (2007): imitate rollouts by softmax(feedback / tau)."""
    weights = jax.nn.softmax(feedback / tau, axis=0)
    return -sdpo_jax.mean_score(policy.probs, tokens, feedback.shape[0] * weights)


# %% [markdown]
# What an algorithm is told follows from its parameters. A fair comparison is one among those that
# are told the same, and SDPO is told more: its teacher has the table of token quality.

# %%
from sdpo_jax.information import information

others = {name: sdpo_jax.ALGORITHMS[name] for name in ("reinforce", "rloo", "sdpo")}
for name, algorithm in {"reward_weighted": reward_weighted, **others}.items():
    print(f"{name}: {', '.join(information(algorithm, learn_from_feedback=1.0))}")

# %% [markdown]
# ## One grid
#
# `tau` is an axis for the algorithm that has one; the others are trained once, and repeat their
# result along it. A third of the seeds is for choosing, the others are for judging.

# %%
rates = np.geomspace(0.02, 200.0, 9)
data = sdpo_jax.run_grid(
    {
        "algorithm": [reward_weighted, *others],
        "tau": [0.03, 0.1, 0.3],
        "learning_rate": rates,
        "seed": range(96),
    },
    config=sdpo_jax.Config(noise=0.1, learn_from_feedback=1.0),
    sizes=sdpo_jax.Sizes(steps=200),
)
choosing, judging = data.isel(seed=slice(0, 32)), data.isel(seed=slice(32, None))

# %% [markdown]
# ## Each at its own best
#
# The setting with the largest mean reward on the first seeds; its reward on the others, with a 95%
# interval. A setting at which a run broke down counts as worst.

# %%
rows, best, rewards = [], {}, {}
for name in data.algorithm.values:
    tuned = choosing.reward.sel({"algorithm": name}).mean("seed", skipna=False)
    places = tuned.fillna(-np.inf).argmax(...)
    best[name] = {axis: data[axis].values[place] for axis, place in places.items()}
    rewards[name] = judging.reward.sel({"algorithm": name, **best[name]}).values
    found = statistics.mean(rewards[name])
    rows.append(
        {
            "algorithm": name,
            "learning rate": f"{best[name]['learning_rate']:.3g}",
            "tau": f"{best[name]['tau']:g}" if name == "reward_weighted" else "",
            "reward": f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]",
        }
    )
pd.DataFrame(rows).sort_values("reward", ascending=False).set_index("algorithm")

# %% [markdown]
# The figure shows why one learning rate for all would say little: at a rate that is good for one,
# another hardly moves or falls apart.

# %%
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name in data.algorithm.values:
    at_best = judging.reward.sel({"algorithm": name, "tau": best[name]["tau"]})
    found = statistics.mean(at_best.transpose("learning_rate", "seed"))
    axis.plot(rates, found.estimate, marker="o", label=name)
    axis.fill_between(rates, found.low, found.high, alpha=0.25)
axis.set(xscale="log", xlabel="learning rate", ylabel="final reward")
axis.legend()
plt.show()

# %% [markdown]
# ## Who is ahead
#
# Differences are paired within seeds. An interval on one side of 0 tells two algorithms apart.

# %%
for other in others:
    ahead = statistics.paired_difference(rewards["reward_weighted"], rewards[other])
    print(
        f"reward_weighted less {other}: {ahead.estimate:+.3f} [{ahead.low:+.3f}, {ahead.high:+.3f}]"
    )
