"""A laboratory of post-training: small networks that read feedback in their context.

Everything is a pure function of arrays. ``World`` says what is read and written, ``Transformer``,
``GRU`` or ``Own`` who reads and writes, ``pretrain`` teaches reading over the whole family of
problems, and ``train`` is one training run on one problem by one of the ``METHODS``:

>>> import jax, jax.numpy as jnp
>>> from sdpo_jax.in_context import METHODS, Lab, Pretraining, Setting, Transformer, World
>>> from sdpo_jax.in_context import kinds, pretrain, train
>>> world = World(length=3, vocab_size=4)
>>> network = Transformer(world.ids, world.vocab_size, world.places, width=8)
>>> plan = Pretraining(checkpoints=(0, 4), batch=8, examples=16)
>>> params = jax.jit(lambda: pretrain(network, world, plan, seed=0).params)()
>>> lab = Lab(world, network, METHODS["sdpo_composed_forward"], steps=4)
>>> def run(seed, kind, checkpoint):
...     first = jax.tree.map(lambda each: each[checkpoint], params)
...     return train(lab, first, seed, Setting(0.01, kind)).curves["reward"]
>>> chosen = kinds(["binary", "critique"])
>>> jax.jit(jax.vmap(run))(jnp.arange(2), chosen, jnp.array([0, 1])).shape
(2, 4)
"""

from sdpo_jax.in_context.methods import METHODS, NUMBERS, TEACHERS, Batch, Method, Teacher
from sdpo_jax.in_context.network import GRU, Own, Transformer, parameter_count, without_cache
from sdpo_jax.in_context.pretrain import Pretrained, Pretraining, pretrain
from sdpo_jax.in_context.train import CURVES, Lab, Result, Setting, problem_of, sample, train
from sdpo_jax.in_context.worlds import FEEDBACK, KINDS, Feedback, World, kinds, lessons

__all__ = [
    "CURVES",
    "FEEDBACK",
    "GRU",
    "KINDS",
    "METHODS",
    "NUMBERS",
    "TEACHERS",
    "Batch",
    "Feedback",
    "Lab",
    "Method",
    "Own",
    "Pretrained",
    "Pretraining",
    "Result",
    "Setting",
    "Teacher",
    "Transformer",
    "World",
    "kinds",
    "lessons",
    "parameter_count",
    "pretrain",
    "problem_of",
    "sample",
    "train",
    "without_cache",
]
