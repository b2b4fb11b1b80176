"""Self-distillation of an Equinox model: under `jit`, over seeds with `vmap`, on two devices.

A tiny causal transformer reads a question and a feedback and writes an answer, all of them tokens.
It learns two things at once. From examples, to do as feedback says, which large models can already.
From its own answers without feedback, what it would have said with it: its teacher is itself, at
the same parameters, reading the right answer as feedback.

    python docs/examples/equinox_sdpo.py
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from sdpo_jax import losses

jax.config.update("jax_num_cpu_devices", 2)  # before JAX is asked for anything else

# The tokens: a blank, an end, letters, questions.
BLANK, END, LETTER, QUESTION, VOCAB_SIZE = 0, 1, 2, 8, 16
LENGTH = 3  # of an answer: one letter or two, and an end
WIDTH, HEADS, BATCH = 32, 4, 32
optimizer = optax.adam(3e-3)
# What is this small runs at once, and is quickly compiled without the passes that make it faster.
quickly = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
jit = partial(jax.jit, compiler_options=quickly)


class Transformer(eqx.Module):
    """Attention and an MLP."""

    tokens: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    attention: list[eqx.nn.Linear]
    mlp: list[eqx.nn.Linear]
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 7)
        self.tokens = eqx.nn.Embedding(VOCAB_SIZE, WIDTH, key=keys[0])
        self.positions = eqx.nn.Embedding(2 * LENGTH, WIDTH, key=keys[1])
        self.attention = [
            eqx.nn.Linear(WIDTH, 3 * WIDTH, key=keys[2]),
            eqx.nn.Linear(WIDTH, WIDTH, key=keys[3]),
        ]
        self.mlp = [
            eqx.nn.Linear(WIDTH, 2 * WIDTH, key=keys[4]),
            eqx.nn.Linear(2 * WIDTH, WIDTH, key=keys[5]),
        ]
        self.head = eqx.nn.Linear(WIDTH, VOCAB_SIZE, key=keys[6])

    def __call__(self, tokens):
        """From tokens ``[T]`` to the logits ``[T, V]`` of the token after each."""
        length = len(tokens)
        x = jax.vmap(self.tokens)(tokens) + self.positions.weight[:length]
        heads = jax.vmap(self.attention[0])(x).reshape(length, 3, HEADS, -1)
        query, key, value = jnp.moveaxis(heads, 1, 0)
        weights = jnp.einsum("qhd,khd->hqk", query, key) / query.shape[-1] ** 0.5
        weights = jnp.where(jnp.tri(length, dtype=bool), weights, -jnp.inf)
        mixed = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(weights), value)
        x = x + jax.vmap(self.attention[1])(mixed.reshape(length, WIDTH))
        hidden = jax.nn.gelu(jax.vmap(self.mlp[0])(x))
        return jax.vmap(self.head)(x + jax.vmap(self.mlp[1])(hidden))


def answer_logits(model, question, feedback, answer):
    """Logits ``[B, LENGTH, V]`` of the tokens of an answer, after all that stands before them."""
    context = jnp.concatenate((question[:, None], feedback, answer[:, :-1]), axis=1)
    return jax.vmap(model)(context)[:, -LENGTH:]


def up_to_the_end(answer):
    """The mask ``[B, LENGTH]`` of the tokens of an answer, its end the last."""
    ended = answer == END
    return jnp.cumsum(ended, axis=1) - ended == 0


def random_answers(key, count):
    letter, length = jax.random.split(key)
    answer = jax.random.randint(letter, (count, LENGTH), LETTER, QUESTION)
    end = jax.random.randint(length, (count, 1), 1, LENGTH)
    place = jnp.arange(LENGTH)
    return jnp.where(place < end, answer, jnp.where(place == end, END, BLANK))


def sample(model, key, question):
    """Answers ``[B, LENGTH]`` of the model, without feedback."""
    nothing = jnp.full((BATCH, LENGTH), BLANK)

    def write(answer, place_and_key):
        place, key = place_and_key
        logits = answer_logits(model, question, nothing, answer)[:, place]
        return answer.at[:, place].set(jax.random.categorical(key, logits)), None

    places = jnp.arange(LENGTH), jax.random.split(key, LENGTH)
    return lax.scan(write, nothing, places)[0]


def reading(model, question, told):
    """The cross entropy of the answer that the feedback tells."""
    mask = up_to_the_end(told)
    log_probs = losses.token_log_probs(answer_logits(model, question, told, told), told)
    return losses.token_mean(-log_probs, mask)


def sdpo(model, batch, count=None):
    """The divergence of the model from itself with feedback, along its own answers."""
    question, feedback, answer = batch
    mask = up_to_the_end(answer)
    student = answer_logits(model, question, jnp.full_like(feedback, BLANK), answer)
    teacher = answer_logits(model, question, feedback, answer)  # it gets no gradient
    values = losses.distillation(student, teacher, divergence="forward_kl", where=mask)
    return losses.token_mean(values, mask, count=count)


def train(seed):
    """The trained model, and the loss and the reward at each step."""
    keys = jax.random.split(jax.random.key(seed), 3)
    solutions = random_answers(keys[0], VOCAB_SIZE - QUESTION)

    def step(state, key):
        model, memory = state
        keys = jax.random.split(key, 3)
        question = jax.random.randint(keys[0], (BATCH,), QUESTION, VOCAB_SIZE)
        told = random_answers(keys[1], BATCH)
        right, answer = solutions[question - QUESTION], sample(model, keys[2], question)

        def both(model):
            return reading(model, question, told) + sdpo(model, (question, right, answer))

        loss, gradient = jax.value_and_grad(both)(model)
        updates, memory = optimizer.update(gradient, memory)
        reward = ((answer == right) | ~up_to_the_end(right)).all(1).mean()
        return (eqx.apply_updates(model, updates), memory), (loss, reward)

    model = Transformer(keys[1])
    state = model, optimizer.init(model)
    (model, _), (loss, reward) = lax.scan(step, state, jax.random.split(keys[2], 200))
    return model, loss, reward


mesh = Mesh(jax.devices(), ("data",))


def sdpo_on_two(model, batch):
    """``sdpo`` of a batch of which each device has half, and all count the tokens of both."""

    def on_one(model, batch):
        count = lax.psum(losses.token_count(up_to_the_end(batch[2])), "data")
        return lax.psum(sdpo(model, batch, count), "data")

    halves = PartitionSpec(), PartitionSpec("data")
    return jax.shard_map(on_one, mesh=mesh, in_specs=halves, out_specs=PartitionSpec())(
        model, batch
    )


def difference(seed):
    """The largest between the gradient of a batch on two devices, and on one."""
    keys = jax.random.split(jax.random.key(seed), 4)
    question = jax.random.randint(keys[0], (BATCH,), QUESTION, VOCAB_SIZE)
    # Of several lengths: a mean of the two means would be another number.
    batch = question, random_answers(keys[1], BATCH), random_answers(keys[2], BATCH)
    model = Transformer(keys[3])
    one, two = jax.grad(sdpo)(model, batch), jax.grad(sdpo_on_two)(model, batch)
    return jax.tree.reduce(jnp.maximum, jax.tree.map(lambda a, b: abs(a - b).max(), one, two))


if __name__ == "__main__":
    _, *found = jit(jax.vmap(train))(np.arange(2))
    loss, reward = jax.device_get(found)
    for seed in range(2):
        print(f"seed {seed}: loss {loss[seed, 0]:.2f} -> {loss[seed, -1]:.2f}, ", end="")
        print(f"reward {reward[seed, 0]:.2f} -> {reward[seed, -1]:.2f}")
    print(f"on {len(jax.devices())} devices: gradient off by {jit(difference)(0):.0e}")
