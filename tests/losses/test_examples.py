"""The examples of ``docs/losses.md``: they run as they are written, and what they train learns."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import sdpo_jax
from sdpo_jax import losses

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/losses.md").read_text()
EXAMPLES = ROOT / "docs/examples"


def run(name: str, *options: str) -> str:
    """What an example prints, in a process of its own: it asks for two devices."""
    done = subprocess.run(
        [sys.executable, *options, str(EXAMPLES / name)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["flax_sdpo.py", "equinox_sdpo.py"])
def test_it_learns_under_jit_and_vmap_and_two_devices_give_the_gradient_of_one(name):
    *seeds, devices = run(name, "-W", "error").splitlines()
    assert len(seeds) == 2
    for line in seeds:
        first, last, before, after = map(float, re.findall(r"\d+\.\d\d", line))
        assert last < first / 4
        assert before < 0.3 and after > 0.9
    found = re.fullmatch(r"on 2 devices: gradient off by (\S+)", devices)
    assert found and float(found[1]) <= 1e-6


# Tunix

SOURCE = (EXAMPLES / "tunix_sdpo.py").read_text()
FUNCTION = next(
    node
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef) and node.name == "sdpo"
)


def test_it_learns_in_tunix():
    pytest.importorskip("tunix", reason="not installed; pip install -e '.[tunix]'")
    found = re.fullmatch(r"reward (0\.\d\d) -> (\d\.\d\d)", run("tunix_sdpo.py").splitlines()[-1])
    assert found and float(found[1]) < 0.3 and float(found[2]) > 0.9


def test_tunix_calls_a_policy_loss_as_the_example_is_called():
    algo_core = pytest.importorskip("tunix.rl.algo_core", reason="Tunix is not installed")
    theirs = inspect.signature(algo_core.grpo_loss_fn)
    assert list(theirs.parameters) == [*ours(), "kwargs"]


def ours() -> list[str]:
    assert FUNCTION.args.kwarg is not None
    return [argument.arg for argument in FUNCTION.args.args]


def test_the_policy_loss_has_tunixs_signature():
    assert ours() == ["model", "train_example", "algo_config", "pad_id", "eos_id"]
    registered = [ast.unparse(each) for each in FUNCTION.decorator_list]
    assert registered == ["function_registry.register_policy_loss_fn('sdpo')"]


def test_the_policy_loss_is_the_mean_divergence_over_the_rollouts():
    """Called as Tunix's learner calls it, with logits that are given."""
    draw = np.random.default_rng(0)
    student, teacher = draw.normal(size=(2, 3, 4, 5))
    mask = np.arange(4) < np.array([4, 2, 0])[:, None]
    prompts = {"prompt_ids": student, "feedback_prompt_ids": teacher}

    class Model(nnx.Module):
        def __init__(self):
            self.shift = nnx.Param(jnp.zeros(5))

    def logits(graph, state, *, prompt_tokens, completion_tokens, temperature, **options):
        assert options == {"pad_id": 0, "eos_id": 1, "stop_gradient": False, "return_logits": True}
        shift = nnx.merge(graph, state).shift[...]
        return None, jnp.asarray(prompt_tokens, jnp.float32) / temperature + shift

    names = {
        "common": SimpleNamespace(compute_per_token_logps=logits),
        "losses": losses,
        "nnx": nnx,
        "jnp": jnp,
    }
    plain = ast.FunctionDef(**{**vars(FUNCTION), "decorator_list": []})
    exec(ast.unparse(plain), names)
    example = SimpleNamespace(completion_mask=mask, completion_ids=None, **prompts)
    algorithm = SimpleNamespace(temperature=1.0)

    def loss(model):
        return names["sdpo"](model, example, algo_config=algorithm, pad_id=0, eos_id=1)  # pyright: ignore

    (value, shown), gradient = nnx.value_and_grad(loss, has_aux=True)(Model())
    log_s, log_q = (each - np.log(np.exp(each).sum(-1, keepdims=True)) for each in prompts.values())
    expected = (np.exp(log_q) * (log_q - log_s)).sum(-1)
    np.testing.assert_allclose(value, expected[mask].mean(), rtol=1e-5)
    # Of the forward KL, with a teacher that has none: S - Q.
    pulled = (np.exp(log_s) - np.exp(log_q))[mask].sum(0) / mask.sum()
    np.testing.assert_allclose(jax.tree.leaves(gradient)[0], pulled, rtol=1e-4, atol=1e-6)
    # What the learner logs of every loss.
    assert set(shown) == {"kl", "pg_clipfrac"}


# The page


def test_the_page_has_every_loss_and_no_other():
    named = set(re.findall(r"`losses\.(\w+)", PAGE))
    assert named == set(losses.__all__)


def test_the_code_of_the_page_runs():
    blocks = re.findall(r"```python\n(.*?)\n *```", PAGE, re.DOTALL)
    assert blocks
    names: dict[str, object] = {"jax": jax, "sdpo_jax": sdpo_jax}
    for block in blocks:
        exec(textwrap.dedent(block), names)


def test_a_sampled_token_against_the_mixture_is_twice_the_jensen_shannon_divergence():
    """In expectation, enumerated over the tokens of one position."""
    size = 5
    student, teacher = np.random.default_rng(0).normal(size=(2, 1, size)).astype(np.float32)
    tokens = jnp.arange(size)[:, None]  # [V, T]: each token once
    probs = np.exp(student) / np.exp(student).sum()

    def log_probs(logits):
        return losses.token_log_probs(jnp.broadcast_to(logits, (size, 1, size)), tokens)

    def sampled(logits):
        log_s, log_q = log_probs(logits), log_probs(teacher)
        values = losses.sampled_token(log_s, jnp.logaddexp(log_s, log_q) - jnp.log(2))
        return (probs[0] * values[:, 0]).sum()

    def divergence(logits):
        return losses.distillation(logits, jnp.asarray(teacher), divergence="jsd", mix=0.5).sum()

    found = jax.jit(jax.grad(sampled))(student)
    expected = jax.jit(jax.grad(divergence))(student)
    np.testing.assert_allclose(found, 2 * expected, atol=1e-6)


def test_the_page_shows_every_example():
    for path in EXAMPLES.glob("*.py"):
        assert f"(examples/{path.name})" in PAGE
