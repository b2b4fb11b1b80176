"""The laboratory in PyTorch is the same one, so that what it is timed at says something."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdpo_jax import problems
from sdpo_jax.in_context import METHODS, Lab, Setting, Transformer, World, kinds, worlds
from sdpo_jax.in_context.methods import Batch
from sdpo_jax.in_context.train import Run, read, sample

torch = pytest.importorskip("torch", reason="needs PyTorch")
torch_lab = pytest.importorskip("benchmarks.torch_lab")

RUNS, COUNT, LENGTH = 3, 8, 4
WORLD = World(LENGTH, 5)
NETWORK = Transformer(WORLD.ids, WORLD.vocab_size, WORLD.places, width=8, heads=2)


@pytest.fixture(scope="module")
def theirs():
    """The PyTorch laboratory, parameters of both, and problems of both."""
    params = jax.vmap(NETWORK.init)(jax.random.split(jax.random.key(0), RUNS))
    problem = problems.sample_problem(jnp.arange(RUNS), LENGTH, WORLD.vocab_size)
    lab = torch_lab.Lab("sdpo_live_forward", LENGTH, WORLD.vocab_size, heads=2)
    return lab, params, torch_lab.stacked(params), problem, torch_lab.problems_of(problem)


def of_run(tree, run):
    return jax.tree.map(lambda each: each[run], tree)


def test_it_writes_reads_and_rewards_as_the_library(theirs):
    lab, params, tensors, problem, found = theirs
    uniforms = np.random.default_rng(0).uniform(size=(RUNS, COUNT, LENGTH)).astype(np.float32)
    tokens = lab.write(tensors, torch.tensor(uniforms))
    reward = found.reward(tokens).numpy()
    logits = lab.logits(tensors, tokens).detach().numpy()
    hints = np.random.default_rng(1).normal(size=uniforms.shape).astype(np.float32)
    context = lab.critique(found, tokens, torch.tensor(reward), torch.tensor(hints))
    taught = lab.logits(tensors, tokens, context).numpy()
    for run in range(RUNS):
        mine = of_run(params, run)
        answer = sample(NETWORK, WORLD, [(mine, None)], lambda each: each[0], uniforms[run].T)
        np.testing.assert_array_equal(tokens[run].numpy(), np.asarray(answer).T)
        own = jax.tree.map(lambda each, run=run: each[..., run], problem)
        np.testing.assert_allclose(reward[run], problems.reward(own, answer), rtol=1e-5)
        np.testing.assert_allclose(
            logits[run], read(NETWORK, WORLD, mine, answer, None), rtol=1e-3, atol=1e-5
        )
        said = worlds.feedback(
            own, answer, reward[run], kinds(["critique"])[0], np.zeros(COUNT, np.float32),
            0.45 * hints[run].T,
        )  # fmt: skip
        heard = worlds.contexts(WORLD, worlds.told(WORLD, answer, said))
        np.testing.assert_array_equal(context[run].numpy(), np.asarray(heard).T)
        np.testing.assert_allclose(
            taught[run], read(NETWORK, WORLD, mine, answer, heard), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("method", ["grpo", "sdpo_live_forward"])
def test_its_losses_and_gradients_are_the_library_s(theirs, method):
    lab, params, tensors, *_ = theirs
    draw = np.random.default_rng(2)
    tokens = draw.integers(WORLD.vocab_size, size=(RUNS, COUNT, LENGTH))
    score = draw.uniform(size=(RUNS, COUNT)).astype(np.float32)
    teacher = draw.normal(size=(RUNS, COUNT, LENGTH, WORLD.vocab_size)).astype(np.float32)
    leaves = {name: each.clone().requires_grad_() for name, each in tensors.items()}
    student = lab.logits(leaves, torch.tensor(tokens))
    given = torch.tensor(teacher) if "sdpo" in method else None
    lab.loss(student, torch.tensor(tokens), torch.tensor(score), given).backward()
    mine = Lab(WORLD, NETWORK, METHODS[method], rollouts=COUNT)
    for run in range(RUNS):
        batch = Batch(jnp.asarray(tokens[run]), score[run], None, None, teacher[run], None)
        here = Run(mine, of_run(params, run), run, Setting(1e-3))
        gradient = jax.grad(lambda each, here=here, batch=batch: here.loss(each, batch))(here.first)
        flat = {name: gradient[name] for name in ("embed", "place", "out")} | gradient["layers"]
        for name, each in flat.items():
            np.testing.assert_allclose(
                leaves[name].grad[run].numpy(), each, rtol=2e-3, atol=2e-6, err_msg=name
            )


@pytest.mark.parametrize("method", ["grpo", "sdpo_live_forward"])
def test_it_trains(theirs, method):
    _, _, tensors, _, found = theirs
    lab = torch_lab.Lab(method, LENGTH, WORLD.vocab_size, heads=2)
    curves = lab.train(tensors, found, 12, COUNT)
    assert curves["reward"].shape == (12, RUNS)
    assert bool(torch.isfinite(curves["entropy"]).all())
    assert 0 < curves["entropy"].max().item() <= np.log(WORLD.vocab_size) + 1e-5
