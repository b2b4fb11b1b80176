"""All numbers that any run may have, the engine's and those of all parts' own, as one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

import jax

from sdpo_jax import ALGORITHMS, POLICIES, PROBLEMS, Config, Program
from sdpo_jax import config as configs
from sdpo_jax.algorithm import numbers_of
from sdpo_jax.program import algorithm_of, numbers_of_program

OWN = {
    **PROBLEMS["bigram"].numbers,
    **POLICIES["factored"].numbers,
    **{name: each for key in ALGORITHMS for name, each in numbers_of(algorithm_of(key)).items()},
}
FIELDS = (*(each.name for each in fields(Config)), *OWN)

_Base: Any = make_dataclass(
    "_Base",
    [
        *((each.name, Any, field(default=each.default)) for each in fields(Config)),
        *((name, Any, field(default=each.default)) for name, each in OWN.items()),
    ],
    frozen=True,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Numbers(_Base):
    """Every number; each a float or ``[*runs]``."""

    @property
    def config(self) -> Config:
        """The engine's."""
        return Config(**{each.name: getattr(self, each.name) for each in fields(Config)})

    @property
    def all_own(self) -> dict[str, Any]:
        """Those of every algorithm, and of the paper's problem and policy."""
        return {name: getattr(self, name) for name in OWN}

    def own(self, program: Program) -> dict[str, Any]:
        """Those of a program."""
        return {name: getattr(self, name) for name in numbers_of_program(program)}


def check_value(name: str, value: object) -> None:
    """As ``config.check_value``, of any number."""
    configs.check_value(name, value, OWN[name].rule if name in OWN else None)
