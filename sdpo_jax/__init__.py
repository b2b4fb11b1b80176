"""Batches of SDPO training runs as one compiled array program.

A training run is a pure function, so a thousand of them are a ``vmap``:

>>> import jax, jax.numpy as jnp, sdpo_jax
>>> program = sdpo_jax.Program("sdpo", sdpo_jax.Sizes(steps=20))
>>> def reward(seed, noise):
...     config = sdpo_jax.Config(noise=noise)
...     return sdpo_jax.train(seed, program, config).final["reward"]
>>> compiled = jax.jit(jax.vmap(reward), compiler_options=sdpo_jax.compiler_options())
>>> rewards = compiled(jnp.arange(8), jnp.linspace(0.0, 0.5, 8))
>>> rewards.shape
(8,)

The options matter where a metric or algorithm of one's own holds a matrix product: see
``compiler_options``.

``run_grid`` does the same for whole grids of algorithms, oracles and numbers, fast and labelled.
``sdpo_jax.losses`` has the losses for models of one's own.
"""

from sdpo_jax import losses
from sdpo_jax.algorithm import Algorithm, Cost, Update
from sdpo_jax.algorithms import ALGORITHMS
from sdpo_jax.config import Config, Sizes
from sdpo_jax.engine.own_numbers import Number
from sdpo_jax.grid import Plan, Progress, compiler_options, compute, plan_grid, run_grid
from sdpo_jax.metrics import METRICS, Metric, View, credit_correlation
from sdpo_jax.optimizers import OPTIMIZERS
from sdpo_jax.oracles import (
    ORACLES,
    Hints,
    Oracle,
    binary,
    constant,
    continuous,
    critique,
    feedback,
    judged,
    ordinal,
)
from sdpo_jax.oracles.judges import Judge
from sdpo_jax.policies import POLICIES, Network, Policy, mean_score
from sdpo_jax.problems import (
    PROBLEMS,
    Function,
    Problem,
    best_sequence,
    expected_reward,
    optimality,
    reward,
    sample_problem,
    token_advantage,
)
from sdpo_jax.program import Program
from sdpo_jax.record import Recorder
from sdpo_jax.teachers import Teacher
from sdpo_jax.teachers.lessons import Lessons
from sdpo_jax.train import Result, Setting, State, init, problem_of, step, train

__version__ = "0.1.0"

__all__ = [
    "ALGORITHMS",
    "METRICS",
    "OPTIMIZERS",
    "ORACLES",
    "POLICIES",
    "PROBLEMS",
    "Algorithm",
    "Config",
    "Cost",
    "Function",
    "Hints",
    "Judge",
    "Lessons",
    "Metric",
    "Network",
    "Number",
    "Oracle",
    "Plan",
    "Policy",
    "Problem",
    "Program",
    "Progress",
    "Recorder",
    "Result",
    "Setting",
    "Sizes",
    "State",
    "Teacher",
    "Update",
    "View",
    "best_sequence",
    "binary",
    "compiler_options",
    "compute",
    "constant",
    "continuous",
    "credit_correlation",
    "critique",
    "expected_reward",
    "feedback",
    "init",
    "judged",
    "losses",
    "mean_score",
    "optimality",
    "ordinal",
    "plan_grid",
    "problem_of",
    "reward",
    "run_grid",
    "sample_problem",
    "step",
    "token_advantage",
    "train",
]
