"""A small, complete, made-up output folder: every data set and a manifest, no engine needed.

The numbers are drawn around the values that the reproduction is expected to give, with the same
pairing: what belongs to a seed (its problem, its luck) is drawn once and shared by all cells, and
a setting that occurs in several data sets has the same numbers in each of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr

from sweeps.store import datasets as store

ALGORITHMS = ("sdpo", "reinforce", "advantage_weighted")
FEEDBACK = ("binary", "ordinal", "continuous", "critique")
NOISE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
LEARNING_RATES = (0.005, 0.02, 0.08, 0.32, 1.28, 5.12)
KNOWLEDGE = (0.0, 0.25, 0.5, 0.75, 1.0)
KL_WEIGHTS = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
READINGS = ("continuous", "position", "token", "sampled")
WINDOW = 20
UNIFORM_REWARD = 0.512
BEST_REWARD = 0.86
START_ENTROPY = 2.0745

# (final reward, credit, final entropy) of SDPO, mean over seeds.
SDPO = {
    "binary": (0.664, 0.737, 1.680),
    "ordinal": (0.671, 0.755, 1.683),
    "continuous": (0.654, 0.783, 1.769),
    "critique": (0.649, 0.799, 1.797),
}
BASELINES = {"reinforce": (0.518, 0.607, 2.075), "advantage_weighted": (0.517, 0.0, 2.075)}
HYBRID = {"continuous": (0.640, 0.770, 1.842), "critique": (0.636, 0.787, 1.860)}

Cell = dict[str, np.ndarray]


def write(out_dir: str | os.PathLike[str], seeds: int = 64, steps: int = 300) -> Path:
    """Write ``OUT/data/*.nc`` and ``OUT/manifest.json``; return ``OUT``.

    Args:
        seeds: number of seeds, at least 6.
        steps: length of the curves, at least 40.
    """
    draw = _Draw(seeds, steps)
    for name, dataset in datasets(draw).items():
        store.save(out_dir, name, dataset)
    store.write_manifest(out_dir, _manifest(seeds, steps))
    return Path(out_dir)


class _Draw:
    """What is drawn once for each seed, and the cells made from it."""

    def __init__(self, seeds: int, steps: int) -> None:
        rng = np.random.default_rng(20260123)
        self.seeds, self.steps = seeds, steps

        def standard() -> np.ndarray:
            """Normal draws shifted and scaled to mean 0 and deviation 1, whatever the number."""
            values = rng.standard_normal(seeds)
            return (values - values.mean()) / values.std()

        self.uniform = UNIFORM_REWARD + 0.036 * standard()
        self.best = BEST_REWARD + 0.02 * standard()
        self.start_entropy = START_ENTROPY + 0.0012 * standard()
        self.talent = standard()  # how much a problem lets itself be learnt
        self.luck = rng.standard_normal((seeds, steps))  # the rollouts' luck, step by step

    def own(self, *name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Noise of one cell: a stream that depends on the cell's name and nothing else."""
        key = [int(byte) for byte in "/".join(name).encode()]
        return np.random.default_rng(key).standard_normal((self.seeds, *shape))

    def cell(
        self, algorithm: str, oracle: str, reward: float, credit: float, entropy: float
    ) -> Cell:
        """Curves and final values of one algorithm under one feedback: ``[seed]``, ``[seed,
        step]``.

        ``reward``, ``credit`` and ``entropy`` are the means over seeds of the final values.
        """
        time = np.arange(self.steps) / (self.steps - 1)
        rise = (1 - np.exp(-0.7 * time)) / (1 - np.exp(-0.7))
        gain = reward - UNIFORM_REWARD
        loss = START_ENTROPY - entropy
        own = self.own(algorithm, oracle)
        curve = (
            self.uniform[:, None]
            + gain * (1 + 0.22 * self.talent + 0.04 * own)[:, None] * rise
            + 0.018 * self.luck
            + 0.004 * self.own(algorithm, oracle, "curve", shape=(self.steps,))
        )
        entropy_curve = self.start_entropy[:, None] - loss * np.maximum(
            1 + 0.36 * self.talent + 0.05 * own, 0.02
        )[:, None] * (0.3 * time + 0.7 * time**2)
        spread = {"sdpo": 0.03, "hybrid": 0.03, "reinforce": 0.04, "advantage_weighted": 0.07}
        final = curve[:, -WINDOW:].mean(axis=-1)
        return {
            "reward": final,
            "credit": credit
            + spread[algorithm] * (0.9 * self.talent + 0.4 * self.own(algorithm, "credit")),
            "entropy": entropy_curve[:, -1],
            "reward_curve": curve,
            "entropy_curve": entropy_curve,
            "optimality": (final - self.uniform) / (self.best - self.uniform),
        }

    def standard(self, algorithm: str, oracle: str = "continuous", noise: float = 0.0) -> Cell:
        """A cell of the paper's own protocol."""
        if algorithm == "hybrid":
            return self.cell(algorithm, oracle, *HYBRID[oracle])
        if algorithm != "sdpo":
            # The baselines learn from the true reward: neither feedback nor noise reaches them.
            return self.cell(algorithm, "true", *BASELINES[algorithm])
        reward, credit, entropy = SDPO[oracle]
        return self.cell(
            algorithm, oracle, reward - 0.055 * noise**2, credit + 0.002 * noise, entropy
        )


def datasets(draw: _Draw) -> dict[str, xr.Dataset]:
    """All data sets by name."""
    return {
        "algorithms": _algorithms(draw),
        "noise": _noise(draw),
        "hybrid": _hybrid(draw),
        "flipped": _flipped(draw),
        "learning_rate": _learning_rate(draw),
        "knowledge": _knowledge(draw),
        "no_feedback": _no_feedback(draw),
        "kl_weight": _kl_weight(draw),
        "reading": _reading(draw),
        "matched": _matched(draw),
        "on_feedback": _on_feedback(draw),
    }


def _algorithms(draw: _Draw) -> xr.Dataset:
    cells = [[draw.standard(algorithm, name) for name in FEEDBACK] for algorithm in ALGORITHMS]
    names = ("reward", "credit", "entropy", "reward_curve", "entropy_curve", "optimality")
    return _dataset(draw, cells, names, algorithm=ALGORITHMS, oracle=FEEDBACK)


def _noise(draw: _Draw) -> xr.Dataset:
    cells = [[draw.standard(algorithm, noise=level) for level in NOISE] for algorithm in ALGORITHMS]
    return _dataset(draw, cells, algorithm=ALGORITHMS, noise=NOISE)


def _hybrid(draw: _Draw) -> xr.Dataset:
    algorithms, kinds = ("hybrid", "sdpo", "reinforce"), ("continuous", "critique")
    cells = [[draw.standard(algorithm, name, 0.2) for name in kinds] for algorithm in algorithms]
    dataset = _dataset(
        draw,
        cells,
        ("reward", "credit", "entropy", "reward_curve"),
        algorithm=algorithms,
        oracle=kinds,
    )
    time = np.arange(draw.steps) / (draw.steps - 1)
    weight = np.stack(
        [
            0.87
            - 0.06 * time
            + 0.012 * draw.luck
            + (0.03 * draw.talent + 0.01 * draw.own("weight", name))[:, None]
            for name in kinds
        ]
    ).clip(0.02, 0.98)
    divergence = 0.15 + 0.05 * np.log(weight / (1 - weight))
    only_hybrid = np.full((3, 2, draw.seeds), np.nan)
    last, whole = only_hybrid.copy(), only_hybrid.copy()
    last[0] = weight[..., -WINDOW:].mean(axis=-1)
    whole[0] = weight.mean(axis=-1)
    single, curve = ("algorithm", "oracle", "seed"), ("oracle", "seed", "step")
    return dataset.assign(
        alpha=(single, last.astype(np.float32)),
        alpha_mean=(single, whole.astype(np.float32)),
        alpha_curve=(curve, weight.astype(np.float32)),
        divergence_curve=(curve, divergence.astype(np.float32)),
    )


def _flipped(draw: _Draw) -> xr.Dataset:
    values = {"reinforce": (0.507, -0.602, 2.075), "advantage_weighted": (0.511, 0.0, 2.075)}
    cells = [draw.cell(algorithm, "flipped", *numbers) for algorithm, numbers in values.items()]
    return _dataset(draw, cells, algorithm=tuple(values)).assign_attrs(sign=-1.0)


def _learning_rate(draw: _Draw) -> xr.Dataset:
    best = {
        "sdpo": (0.56, 0.654, 0.75, 0.80, 0.81, 0.77),
        "reinforce": (0.514, 0.518, 0.536, 0.60, 0.70, 0.78),
        "advantage_weighted": (0.512, 0.517, 0.52, 0.54, 0.57, 0.60),
    }
    cells = []
    for algorithm, rewards in best.items():
        standard = draw.standard(algorithm)
        credit, entropy = standard["credit"].mean(), standard["entropy"].mean()
        cells.append(
            [
                standard
                if rate == 0.02
                else draw.cell(algorithm, "rate", reward, credit, min(entropy, 2.4 - reward))
                for rate, reward in zip(LEARNING_RATES, rewards, strict=True)
            ]
        )
    return _dataset(draw, cells, algorithm=ALGORITHMS, learning_rate=LEARNING_RATES)


def _knowledge(draw: _Draw) -> xr.Dataset:
    cells = [
        draw.standard("sdpo")
        if known == 1
        else draw.cell("sdpo", f"knows {known}", 0.512 + 0.142 * known, 0.783 * known, 1.769)
        for known in KNOWLEDGE
    ]
    return _dataset(draw, cells, knowledge=KNOWLEDGE)


def _no_feedback(draw: _Draw) -> xr.Dataset:
    return _dataset(draw, draw.cell("sdpo", "none", 0.698, 0.729, 1.49))


def _kl_weight(draw: _Draw) -> xr.Dataset:
    cells = [
        draw.standard("sdpo")
        if weight == 0.01
        else draw.cell(
            "sdpo",
            f"kl {weight}",
            0.512 + 0.150 / (1 + 5 * weight),
            0.783,
            2.075 - 0.32 / (1 + 4 * weight),
        )
        for weight in KL_WEIGHTS
    ]
    return _dataset(draw, cells, kl_weight=KL_WEIGHTS)


def _reading(draw: _Draw) -> xr.Dataset:
    continuous = draw.standard("sdpo")
    cells = [
        continuous,
        continuous,
        draw.standard("sdpo", "critique"),
        draw.cell("sdpo", "sampled", 0.56, 0.45, 2.02),
    ]
    scale = np.array([0.0, 2e-6, 0.12, 0.5])[:, None]
    difference = scale * (1 + 0.1 * np.abs(draw.talent))
    return _dataset(draw, cells, reading=READINGS).assign(
        max_logit_difference=(("reading", "seed"), difference.astype(np.float32))
    )


def _matched(draw: _Draw) -> xr.Dataset:
    step = np.arange(0, draw.steps, max(draw.steps // 10, 1))
    time = step / (draw.steps - 1)
    offset = {"binary": 0.004, "ordinal": 0.001, "continuous": 0.0, "critique": -0.01}
    credit = np.stack(
        [
            0.93
            - 0.15 * time[:, None]
            + shift
            + 0.02 * draw.talent
            + 0.002 * draw.own("matched", name)
            for name, shift in offset.items()
        ]
    )
    return xr.Dataset(
        {"credit": (("oracle", "step", "seed"), credit.astype(np.float32))},
        {"oracle": list(FEEDBACK), "step": step, "seed": np.arange(draw.seeds)},
    )


def _on_feedback(draw: _Draw) -> xr.Dataset:
    cells = [
        [
            draw.standard(algorithm)
            if level == 0
            else draw.cell(
                algorithm,
                f"noisy {level}",
                reward - 0.004 * level,
                credit / (1 + 4 * level),
                entropy,
            )
            for level in NOISE
        ]
        for algorithm, (reward, credit, entropy) in BASELINES.items()
    ]
    return _dataset(draw, cells, algorithm=tuple(BASELINES), noise=NOISE)


def _dataset(
    draw: _Draw,
    cells: Cell | list[Cell] | list[list[Cell]],
    names: tuple[str, ...] = ("reward", "credit", "entropy"),
    **axes: tuple[str, ...] | tuple[float, ...],
) -> xr.Dataset:
    """Cells nested as ``axes`` are, as one data set of float32."""

    def stacked(part: Cell | list, name: str) -> np.ndarray:
        if isinstance(part, dict):
            return part[name]
        return np.stack([stacked(item, name) for item in part])

    coordinates = {axis: list(values) for axis, values in axes.items()}
    coordinates["seed"] = list(range(draw.seeds))
    if any(name.endswith("_curve") for name in names):
        coordinates["step"] = list(range(draw.steps))
    variables = {}
    for name in names:
        dims = (*axes, "seed", "step") if name.endswith("_curve") else (*axes, "seed")
        variables[name] = (dims, stacked(cells, name).astype(np.float32))
    return xr.Dataset(variables, coordinates)


def _manifest(seeds: int, steps: int) -> dict[str, object]:
    return {
        "command": f"python -m sweeps reproduce --seeds {seeds}",
        "commit": "synthetic",
        "versions": {"python": "3.11.7", "jax": "0.10.2", "jaxlib": "0.10.2", "numpy": "2.4.6"},
        "device": {"kind": "cpu", "count": 2},
        "seeds": seeds,
        "block_width": 64,
        "constants": {
            "vocab_size": 8,
            "length": 6,
            "steps": steps,
            "rollouts": 32,
            "learning_rate": 0.02,
            "kl_weight": 0.01,
            "quality_sd": 1.0,
            "bigram_sd": 0.3,
            "pattern_weight": 0.3,
            "init_sd": 0.1,
            "beta": 1.5,
            "tau": 0.15,
            "hint_noise": 0.45,
        },
        "wall_time": {"compile": 12.5, "run": 80.0, "render": 9.5},
    }
