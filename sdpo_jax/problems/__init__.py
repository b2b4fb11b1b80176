"""Problems: what a training run is rewarded for.

A kind of problem is a static, hashable object that draws the problems of some runs. ``bigram`` is
Eq. 1; ``Function``, or any function of one sequence, is a problem of one's own. What is exact of
either (expectations, advantages, the best sequence) follows by enumeration.
"""

from __future__ import annotations

from sdpo_jax.problems.any import (
    PROBLEMS,
    AnyProblem,
    Bigram,
    ProblemKind,
    all_rewards,
    best_sequence,
    draw,
    expected_reward,
    kind_of,
    optimality,
    problem_kind,
    reward,
    token_advantage,
)
from sdpo_jax.problems.bigram import (
    EQUATION_ONE,
    MAX_SEQUENCES,
    EquationOne,
    Problem,
    ScoreTables,
    check_enumerable,
    check_problem,
    look_up,
    sample_problem,
    tabulate,
    token_scores,
    uniform_probs,
)
from sdpo_jax.problems.function import Function, FunctionProblem

__all__ = [
    "EQUATION_ONE",
    "MAX_SEQUENCES",
    "PROBLEMS",
    "AnyProblem",
    "Bigram",
    "EquationOne",
    "Function",
    "FunctionProblem",
    "Problem",
    "ProblemKind",
    "ScoreTables",
    "all_rewards",
    "best_sequence",
    "check_enumerable",
    "check_problem",
    "draw",
    "expected_reward",
    "kind_of",
    "look_up",
    "optimality",
    "problem_kind",
    "reward",
    "sample_problem",
    "tabulate",
    "token_advantage",
    "token_scores",
    "uniform_probs",
]
