"""Self-distillation of a Flax NNX model: under `jit`, over seeds with `vmap`, on two devices.

A tiny causal transformer reads a question and a feedback and writes an answer, all of them tokens.
It learns two things at once. From examples, to do as feedback says, which large models can already.
From its own answers without feedback, what it would have said with it: its teacher is itself, at
the same parameters, reading the right answer as feedback. Answers that were right get no feedback,
and count nowhere.

    python docs/examples/flax_sdpo.py
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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


class Transformer(nnx.Module):
    """From tokens ``[B, T]`` to the logits ``[B, T, V]`` of the token after each."""

    def __init__(self, rngs):
        self.tokens = nnx.Embed(VOCAB_SIZE, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(2 * LENGTH, WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, VOCAB_SIZE, rngs=rngs)

    def __call__(self, tokens):
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        x = x + self.attention(x, mask=nnx.make_causal_mask(tokens))
        x = x + self.down(nnx.gelu(self.up(x)))
        return self.head(x)


# What is the same for all parameters; JAX's transformations then see the parameters only.
graph = nnx.graphdef(nnx.eval_shape(lambda: Transformer(nnx.Rngs(0))))


def answer_logits(params, question, feedback, answer):
    """Logits ``[B, LENGTH, V]`` of the tokens of an answer, after all that stands before them."""
    context = jnp.concatenate((question[:, None], feedback, answer[:, :-1]), axis=1)
    return nnx.merge(graph, params)(context)[:, -LENGTH:]


def up_to_the_end(answer):
    """The mask ``[B, LENGTH]`` of the tokens of an answer, its end the last."""
    ended = answer == END
    return jnp.cumsum(ended, axis=1) - ended == 0


def is_right(answer, solution):
    return ((answer == solution) | ~up_to_the_end(solution)).all(1)


def random_answers(key, count):
    letter, length = jax.random.split(key)
    answer = jax.random.randint(letter, (count, LENGTH), LETTER, QUESTION)
    end = jax.random.randint(length, (count, 1), 1, LENGTH)
    place = jnp.arange(LENGTH)
    return jnp.where(place < end, answer, jnp.where(place == end, END, BLANK))


def sample(params, key, question):
    """Answers ``[B, LENGTH]`` of the model, without feedback."""
    nothing = jnp.full((BATCH, LENGTH), BLANK)

    def write(answer, place_and_key):
        place, key = place_and_key
        logits = answer_logits(params, question, nothing, answer)[:, place]
        return answer.at[:, place].set(jax.random.categorical(key, logits)), None

    places = jnp.arange(LENGTH), jax.random.split(key, LENGTH)
    return lax.scan(write, nothing, places)[0]


def reading(params, question, told):
    """The cross entropy of the answer that the feedback tells."""
    mask = up_to_the_end(told)
    log_probs = losses.token_log_probs(answer_logits(params, question, told, told), told)
    return losses.token_mean(-log_probs, mask)


def sdpo(params, batch):
    """The divergence of the model from itself with feedback, along its own wrong answers."""
    question, feedback, answer = batch
    mask = up_to_the_end(answer) & ~is_right(answer, feedback)[:, None]
    student = answer_logits(params, question, jnp.full_like(feedback, BLANK), answer)
    teacher = answer_logits(params, question, feedback, answer)  # it gets no gradient
    values = losses.distillation(
        student, teacher, divergence="forward_kl", top_k=4, support="teacher", where=mask
    )
    return losses.token_mean(values, mask)  # 0 where all are right


def train(seed):
    """The trained parameters, and the loss and the reward at each step."""
    keys = jax.random.split(jax.random.key(seed), 3)
    solutions = random_answers(keys[0], VOCAB_SIZE - QUESTION)

    def step(state, key):
        params, memory = state
        keys = jax.random.split(key, 3)
        question = jax.random.randint(keys[0], (BATCH,), QUESTION, VOCAB_SIZE)
        told = random_answers(keys[1], BATCH)
        right, answer = solutions[question - QUESTION], sample(params, keys[2], question)

        def both(params):
            return reading(params, question, told) + sdpo(params, (question, right, answer))

        loss, gradient = jax.value_and_grad(both)(params)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, updates), memory), (
            loss,
            is_right(answer, right).mean(),
        )

    params = nnx.state(Transformer(nnx.Rngs(keys[1])))
    state = params, optimizer.init(params)
    (params, _), (loss, reward) = lax.scan(step, state, jax.random.split(keys[2], 200))
    return params, loss, reward


@jit
def fresh(seed):
    """A new model's parameters, and a batch of answers of several lengths."""
    keys = jax.random.split(jax.random.key(seed), 4)
    question = jax.random.randint(keys[0], (BATCH,), QUESTION, VOCAB_SIZE)
    batch = question, random_answers(keys[1], BATCH), random_answers(keys[2], BATCH)
    return nnx.state(Transformer(nnx.Rngs(keys[3]))), batch


def difference(seed):
    """The largest between the gradient of a batch on two devices, and on one."""
    params, batch = fresh(seed)
    # The compiler splits the work as the batch lies; the mean is still that over all tokens.
    halves = NamedSharding(Mesh(jax.devices(), ("data",)), PartitionSpec("data"))
    gradient = jit(jax.grad(sdpo))
    one, two = gradient(params, batch), gradient(params, jax.device_put(batch, halves))
    return max(
        abs(np.asarray(a) - np.asarray(b)).max()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    )


if __name__ == "__main__":
    _, *found = jit(jax.vmap(train))(np.arange(2))
    loss, reward = jax.device_get(found)
    for seed in range(2):
        print(f"seed {seed}: loss {loss[seed, 0]:.2f} -> {loss[seed, -1]:.2f}, ", end="")
        print(f"reward {reward[seed, 0]:.2f} -> {reward[seed, -1]:.2f}")
    print(f"on {len(jax.devices())} devices: gradient off by {difference(0):.0e}")
