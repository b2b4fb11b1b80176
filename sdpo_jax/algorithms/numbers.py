"""Numbers that several algorithms have, each with its rule and title in one place."""

from __future__ import annotations

from typing import Annotated

from sdpo_jax.engine.own_numbers import Number

Clip = Annotated[float, Number(least=0, title="width of the clipped ratio, epsilon")]

# How surely the better of two rollouts is preferred: the odds are exp(sharpness (R_i - R_j)).
Sharpness = Annotated[float, Number(least=0, title="sharpness of the preferences")]

DpoStrength = Annotated[float, Number(above=0, title="beta of DPO")]

ModelRate = Annotated[
    float, Number(least=0, title="learning rate of what is learned beside the policy")
]

# The rest of the reward stays at the last token.
DenseShare = Annotated[
    float, Number(least=0, most=1, title="share of the reward that is spread over tokens")
]

# Exactly 0 is the forward KL of the student from the teacher, ``KL(teacher || student)``, exactly 1
# the reverse KL, as in TRL. Between, the gradient shrinks to 0 towards both ends, like
# ``a (1 - a)``, so that there is a jump at each.
Mix = Annotated[
    float, Number(least=0, most=1, title="mix of the generalised Jensen-Shannon divergence")
]

TeacherRate = Annotated[
    float, Number(least=0, most=1, title="rate at which an averaged teacher follows")
]

DemonstrationStrength = Annotated[
    float, Number(title="what a demonstration adds to its tokens' logits")
]
