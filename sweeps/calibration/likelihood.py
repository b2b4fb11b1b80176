"""How likely each setting makes the published numbers, and what follows for the constants.

For one setting the published numbers of one problem are a draw from the distribution over problems
that the simulation samples. Taken as normal, with mean and covariance known only from n problems,
the predictive density of a new draw y of K numbers is Student's t,

    y ~ t_(n-K)(mean, (n - 1)(n + 1) / (n (n - K)) S)

(Geisser and Cornfield 1963, with Jeffreys' prior): it allows for the noise in S, which a normal
density with S put in for the covariance does not. Rounding and reading errors of the published
numbers are added to S. Figure 6 is five other problems; its means and standard deviations are
compared with those of groups of five.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from sweeps import statistics
from sweeps.calibration.design import LUCKS, NOISE, SHARED_FEEDBACK, Settings
from sweeps.paper.published import ROUNDING, published

GROUP = 5
_GROUP_DRAWS = 4_000
_CONSTANTS = ("quality_scale", "bigram_scale", "pattern_weight", "feedback_strength")


@dataclass(frozen=True)
class Number:
    """A published number.

    Attributes:
        name: what it is.
        value: as published.
        error: standard deviation of its rounding or reading.
        where: table or figure.
    """

    name: str
    value: float
    error: float
    where: str


def numbers() -> tuple[Number, ...]:
    """Every published number of the single seed, in the order of ``simulated``."""
    p = published()
    uniform = 1 / np.sqrt(3)
    printed, read = ROUNDING * uniform, 0.01 * uniform
    tables = (("reward", 1, "table1_final_reward"), ("credit", 2, "table2_credit_correlation"),
              ("entropy", 3, "table3_final_entropy"))  # fmt: skip
    found = [
        Number(f"sdpo {feedback} {metric}", p[name]["sdpo"][index], printed, f"T{number}")
        for index, feedback in enumerate(p["feedback_order"])
        for metric, number, name in tables
    ]
    noise = p["figure4_noise"]
    for index, level in enumerate(NOISE):
        if index == 0:
            # The same run as in the tables, to all three digits.
            continue
        value = noise["reward"]["sdpo"][index]
        found.append(Number(f"sdpo noise {level} reward", value, printed, "F4"))
        value = noise["credit_read_off_plot"]["sdpo"][index]
        found.append(Number(f"sdpo noise {level} credit", value, read, "F4"))
    five = p["figure5_hybrid"]
    for algorithm in ("sdpo", "hybrid"):
        for feedback in ("continuous", "critique"):
            for metric in ("reward", "entropy"):
                value = five[metric][feedback][algorithm]
                name = f"{algorithm} {feedback} at 0.2 {metric}"
                found.append(Number(name, value, printed, "F5"))
    found.append(Number("hybrid weight", five["alpha_read_off_plot"]["mean"], read, "F5"))
    for algorithm in ("reinforce", "advantage_weighted"):
        rewards = [*p["table1_final_reward"][algorithm], *noise["reward"][algorithm]]
        credits = [
            *p["table2_credit_correlation"][algorithm],
            *noise["credit_read_off_plot"][algorithm],
        ]
        entropies = p["table3_final_entropy"][algorithm]
        for metric, values, error in (
            ("reward", rewards, printed),
            ("credit", credits, read),
            ("entropy", entropies, printed),
        ):
            where = "T3" if metric == "entropy" else "T and F4"
            value, spread = float(np.mean(values)), error / np.sqrt(len(values))
            found.append(Number(f"{algorithm} {metric}", value, spread, where))
    return tuple(found)


def fitted(found: tuple[Number, ...]) -> np.ndarray:
    """Which numbers the settings are weighed by: all but the hybrid's mean weight.

    That one sets tau, the hybrid's threshold, which is unstated as well and is no axis here: at a
    fixed tau it would speak for whatever divergence the hand-fitted tau goes with.
    """
    return np.array([each.name != "hybrid weight" for each in found])


def of_tables(found: tuple[Number, ...]) -> np.ndarray:
    """Which numbers are SDPO's of tables 1 to 3 or REINFORCE's, as in an earlier fit by hand."""
    return np.array(
        [
            (each.where in ("T1", "T2", "T3") and each.name.startswith("sdpo"))
            or each.name.startswith("reinforce")
            for each in found
        ]
    )


@dataclass(frozen=True)
class Simulated:
    """The simulation of one setting.

    Attributes:
        single: ``[problems, K]``, as ``numbers``.
        groups: ``[draws, 6]``: of groups of five problems, the mean reward of each algorithm and
            its standard deviation.
    """

    single: np.ndarray
    groups: np.ndarray


class Simulation:
    """All that was trained, arranged by setting."""

    def __init__(self, settings: Settings, data: Mapping[str, xr.Dataset]):
        self.settings = settings
        self.problems = settings.problems
        self._arrays: dict[tuple[str, str], np.ndarray] = {}
        for name, each in data.items():
            lead = [dim for dim in each["reward"].dims if dim != "draw"]
            for metric in ("reward", "credit", "entropy", "weight_mean"):
                if metric in each:
                    array = each[metric].transpose(*lead, "draw").values.astype(np.float64)
                    shaped = array.reshape(*array.shape[:-1], -1, self.problems)
                    self._arrays[name, metric] = shaped

    def shared(self, place: tuple[int, ...]) -> Simulated:
        """One setting, its cells with the same luck; as ``of``, NaN where a number has no cell."""
        simulated = self.of(place)
        constants, single = place[:4], np.full_like(simulated.single, np.nan)
        names = [each.name for each in numbers()]
        for index, feedback in enumerate(SHARED_FEEDBACK):
            for metric in ("reward", "credit", "entropy"):
                column = self._arrays["shared", metric][(*constants, index, 0)]
                single[:, names.index(f"sdpo {feedback} {metric}")] = column
        for metric in ("reward", "entropy"):
            column = self._arrays["shared_baseline", metric][(*constants[:3], 0)]
            single[:, names.index(f"reinforce {metric}")] = column
        return Simulated(single, simulated.groups)

    def of(self, place: tuple[int, ...]) -> Simulated:
        """One setting: its place along each of ``Settings.axes``."""
        constants, hint, reading = place[:4], place[4], place[5]
        untaught = constants[:3]

        def get(name: str, metric: str, cell: int = 0, extra: tuple[int, ...] = ()) -> np.ndarray:
            return self._arrays[name, metric][(*constants, *extra, cell)]

        columns: list[np.ndarray] = []
        for name, extra in (
            ("binary", ()),
            ("ordinal", (reading,)),
            ("continuous", ()),
            ("critique", (hint,)),
        ):
            columns += [get(name, m, 0, extra) for m in ("reward", "credit", "entropy")]
        for index in range(1, len(NOISE)):
            columns += [get("continuous", m, index) for m in ("reward", "credit")]
        last = len(NOISE)
        columns += [get("continuous", m, last) for m in ("reward", "entropy")]
        columns += [get("critique", m, 1, (hint,)) for m in ("reward", "entropy")]
        columns += [get("hybrid", m) for m in ("reward", "entropy")]
        columns += [get("hybrid_critique", m, 0, (hint,)) for m in ("reward", "entropy")]
        columns.append(get("hybrid", "weight_mean"))
        rewards = [get("continuous", "reward")]
        for algorithm in range(2):
            for metric in ("reward", "credit", "entropy"):
                # [lucks, problems]: the mean stands for the mean of the published repeats.
                repeats = self._arrays["baselines", metric][(algorithm, *untaught)]
                assert repeats.shape[0] == LUCKS
                columns.append(repeats.mean(0))
                if metric == "reward":
                    rewards.append(repeats[0])
        drawn = statistics.group_draws(np.stack(rewards), GROUP, _GROUP_DRAWS)
        groups = np.concatenate([drawn.mean(-1), drawn.std(-1, ddof=1)]).T
        return Simulated(np.stack(columns, axis=1), groups)


def eleven(found: tuple[Number, ...]) -> np.ndarray:
    """SDPO's numbers of the tables but for the critique's, and REINFORCE's reward and entropy."""
    return np.array(
        [
            (of_table and "critique" not in each.name and each.name != "reinforce credit")
            for each, of_table in zip(found, of_tables(found), strict=True)
        ]
    )


def five_seeds() -> np.ndarray:
    """Figure 6: the mean rewards of the three algorithms, and their standard deviations."""
    rows = published()["figure6_multiseed"]["reward_mean_std"]
    return np.array(
        [rows[m][part] for part in (0, 1) for m in ("sdpo", "reinforce", "advantage_weighted")]
    )


def log_likelihood(
    simulated: Simulated, found: tuple[Number, ...], used: np.ndarray, with_groups: bool
) -> float:
    """Log density of the published numbers that are ``used``, for one setting."""
    mean, shape, degrees = _predictive(simulated, found, used)
    scale: Any = shape
    value = np.array([each.value for each in found])[used]
    total = float(stats.multivariate_t.logpdf(value, mean, scale, degrees))
    if with_groups:
        covariance: Any = np.cov(simulated.groups.T) + np.eye(6) * ROUNDING**2 / 3
        centre = simulated.groups.mean(0)
        total += float(stats.multivariate_normal.logpdf(five_seeds(), centre, covariance))
    return total


def _predictive(
    simulated: Simulated, found: tuple[Number, ...], used: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    sample = simulated.single[:, used]
    count, size = sample.shape
    if count <= size + 2:
        raise ValueError(f"--problems: {count}; allowed: {size + 3} or more")
    errors = np.array([each.error for each in found])[used]
    spread = np.cov(sample.T) + np.diag(errors**2)
    factor = (count - 1) * (count + 1) / (count * (count - size))
    return sample.mean(0), factor * spread, count - size


@dataclass(frozen=True)
class Fit:
    """How well the best setting explains the numbers.

    Attributes:
        chi_square: squared Mahalanobis distance of the published numbers from the mean.
        count: of numbers.
        p_value: of Hotelling's test.
        z: ``[K]``, each number's distance in standard deviations over problems.
        mean: ``[K]``, what the setting predicts.
    """

    chi_square: float
    count: int
    p_value: float
    z: np.ndarray
    mean: np.ndarray


def fit(simulated: Simulated, found: tuple[Number, ...], used: np.ndarray) -> Fit:
    """Goodness of fit of one setting, the numbers of the single seed together."""
    mean, scale, degrees = _predictive(simulated, found, used)
    value = np.array([each.value for each in found])[used]
    count, size = simulated.single.shape[0], int(used.sum())
    off = value - mean
    distance = float(off @ np.linalg.solve(scale, off))
    chi_square = distance * (count + 1) * (count - 1) / (count * (count - size))
    p_value = float(stats.f.sf(distance / size, size, degrees))
    spread = np.sqrt(np.diag(scale) * (count - size) / (count - 1))
    return Fit(chi_square, size, p_value, off / spread, mean)


def posterior(log_likelihoods: np.ndarray) -> np.ndarray:
    """Weights of the settings under a flat prior, summing to 1."""
    weights = np.exp(log_likelihoods - log_likelihoods.max())
    return weights / weights.sum()


def marginal(weights: np.ndarray, axis: int) -> np.ndarray:
    """The posterior of one constant."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    return weights.sum(axis=others)
