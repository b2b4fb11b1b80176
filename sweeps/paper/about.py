"""The paper at hand and what SDPO is, in the words that the README and every page use."""

from __future__ import annotations

import re
from importlib import resources

from markupsafe import Markup

TITLE = (
    "Self-Distillation Policy Optimization for Alignment in Open-Ended and Continuous-Reward "
    "Settings: A Simulation Study"
)
AUTHORS = "anonymous authors"

SENTENCES = (
    "In SDPO a language model, the student, samples a few responses (rollouts), and an oracle "
    "gives feedback on each: pass or fail, a grade, a score, or a critique.",
    "The same model, shown that feedback, predicts every token again; with this hindsight it is "
    "the self-teacher.",
    "The student is moved towards the teacher's probabilities by a KL divergence, so that every "
    "token has a learning signal of its own, where REINFORCE gives all tokens of a response one "
    "number.",
    "The paper simulates this without a language model: the policy is a table of logits l (6 "
    "positions, 8 tokens), and reading feedback f is a formula, teacher = softmax(l + β f q), with "
    "q the true quality of each token at each position.",
    "So the simulated teacher is given q, a part of the true reward, whatever the feedback; "
    "REINFORCE, the paper's main baseline, never sees it.",
)


def drawing() -> Markup:
    """The drawing of SDPO, an ``<svg>`` element with light and dark colours of its own."""
    text = resources.files("sweeps.paper").joinpath("sdpo.svg").read_text(encoding="utf-8")
    # A page needs no name space, and no size but that of its style sheet.
    return Markup(re.sub(r' xmlns="[^"]*"| width="\d+" height="\d+"', "", text, count=2))
