"""Self-distillation in Tunix: a policy loss of its own, run by Tunix's GRPO learner.

A tiny causal transformer answers questions. `"sdpo"` stands in Tunix's function registry beside
`"ppo"` and `"grpo"`; the configuration names it, and the learner does all the rest. Where a loss
needs more than rollouts, here prompts with feedback, a learner adds it to the training example.

    pip install google-tunix
    python docs/examples/tunix_sdpo.py
"""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.rl import common, function_registry, rl_cluster
from tunix.rl.grpo import grpo_learner
from tunix.rl.rollout import base_rollout

from sdpo_jax import losses

# One character, one token: padding, end, nothing, letters and questions.
ALPHABET = "_.?abcdef01234567"
PAD, END, NOTHING = range(3)
SOLUTIONS = ["ab.", "c.", "fa.", "e.", "db.", "a.", "cf.", "b."]  # of questions 0 to 7
LENGTH, WIDTH, HEADS = 3, 32, 4


@function_registry.register_policy_loss_fn("sdpo")
def sdpo(model, train_example, algo_config, pad_id, eos_id, **kwargs):
    """The divergence of the model from itself with feedback, along its rollouts."""
    mask = train_example.completion_mask

    def logits(prompts):
        """``[B, T, V]``, of the tokens of the rollouts after these prompts."""
        _, found = common.compute_per_token_logps(
            *nnx.split(model),
            prompt_tokens=prompts,
            completion_tokens=train_example.completion_ids,
            pad_id=pad_id,
            eos_id=eos_id,
            stop_gradient=False,
            return_logits=True,
            temperature=algo_config.temperature,
        )
        return found

    student = logits(train_example.prompt_ids)
    teacher = logits(train_example.feedback_prompt_ids)  # it gets no gradient
    values = losses.distillation(student, teacher, divergence="forward_kl", where=mask)
    loss = losses.token_mean(values, mask)
    # The learner logs these two of every loss.
    return loss, {"kl": loss, "pg_clipfrac": jnp.zeros(())}


@flax.struct.dataclass(frozen=True)
class Example(grpo_learner.TrainExample):
    feedback_prompt_ids: jax.Array | None = None


class Learner(grpo_learner.GRPOLearner):
    """Tunix's learner; its training examples hold prompts with feedback, too."""

    def _generate_and_compute_advantage(self, training_input, mode=rl_cluster.Mode.TRAIN):
        example = super()._generate_and_compute_advantage(training_input, mode)
        feedback = encode(training_input["feedback_prompts"])
        return Example(**vars(example), feedback_prompt_ids=jnp.asarray(feedback))


class Transformer(nnx.Module):
    """A causal model as Tunix calls one: logits ``[B, T, V]``, and a cache."""

    def __init__(self, rngs):
        self.tokens = nnx.Embed(len(ALPHABET), WIDTH, rngs=rngs)
        self.places = nnx.Embed(1 + 2 * LENGTH, WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, len(ALPHABET), rngs=rngs)

    def __call__(self, tokens, positions=None, cache=None, attention_mask=None):
        x = self.tokens(tokens) + self.places(jnp.arange(tokens.shape[1]))
        x = x + self.attention(x, mask=nnx.make_causal_mask(tokens))
        x = x + self.down(nnx.gelu(self.up(self.norm(x))))
        return self.head(x), cache


class Tokenizer:
    def encode(self, text):
        return [ALPHABET.index(character) for character in text]

    def decode(self, ids):
        return "".join(ALPHABET[i] for i in ids)

    def bos_id(self):
        return NOTHING

    def eos_id(self):
        return END

    def pad_id(self):
        return PAD


def encode(texts):
    return np.array([Tokenizer().encode(text) for text in texts])


@nnx.jit
def sample(model, prompts, key):
    """Rollouts ``[B, LENGTH]``; after an end there is padding."""
    context = jnp.pad(prompts, ((0, 0), (0, LENGTH)))
    ended = jnp.zeros(len(prompts), bool)
    for place, each in enumerate(jax.random.split(key, LENGTH), prompts.shape[1]):
        token = jax.random.categorical(each, model(context)[0][:, place - 1])
        context = context.at[:, place].set(jnp.where(ended, PAD, token))
        ended |= token == END
    return context[:, prompts.shape[1] :]


class Rollout(base_rollout.BaseRollout):
    """An engine that samples without a cache; else ``"vanilla"`` or ``"vllm"``."""

    def __init__(self, rollout_actor, tokenizer, **kwargs):
        self.actor, self.tokenizer = rollout_actor, tokenizer
        self.key = jax.random.key(0)

    def generate(self, prompts, rollout_config, **kwargs):
        self.key, key = jax.random.split(self.key)
        prompt_ids = encode(prompts)
        tokens = np.asarray(sample(self.actor, prompt_ids, key))
        text = [self.tokenizer.decode(row[row != PAD]) for row in tokens]
        return base_rollout.RolloutOutput(text, None, list(tokens), prompt_ids, None)

    def get_per_token_logps(self, prompt_tokens, completion_tokens):
        graph, state = nnx.split(self.actor)
        return common.compute_per_token_logps(
            graph, state, prompt_tokens, completion_tokens, PAD, END
        )

    def update_params(self, params, filter_types=None):
        nnx.update(self.actor, params)

    def pad_id(self):
        return PAD

    def eos_id(self):
        return END

    def model(self):
        return self.actor


def taught_to_read(steps=400):
    """A model that says what the feedback says, and anything where there is none."""
    model = Transformer(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)
    draw = np.random.default_rng(0)

    @nnx.jit
    def step(model, optimizer, context):
        answer = context[:, -LENGTH:]

        def loss(model):
            log_probs = losses.token_log_probs(model(context)[0][:, -LENGTH - 1 : -1], answer)
            return losses.token_mean(-log_probs, answer != PAD)

        optimizer.update(model, nnx.grad(loss)(model))

    for _ in range(steps):
        letters = draw.choice(list("abcdef"), (64, 2))
        answers = ["".join(pair[: draw.integers(1, 3)]) + "." for pair in letters]
        told = draw.random(64) < 0.5
        prompts = [
            f"{draw.integers(8)}{answer if tell else '':?<3}"
            for answer, tell in zip(answers, told, strict=True)
        ]
        texts = [f"{prompt}{answer:_<3}" for prompt, answer in zip(prompts, answers, strict=True)]
        step(model, optimizer, encode(texts))
    return model


def run(steps=60):
    """The share of right rollouts at each step."""
    rewards = []

    def reward(prompts, completions, **kwargs):
        right = [
            float(SOLUTIONS[int(p[0])] == c) for p, c in zip(prompts, completions, strict=True)
        ]
        rewards.append(np.mean(right))
        return right

    batch = {
        "prompts": np.array([f"{question}???" for question in range(8)]),
        "feedback_prompts": np.array([f"{q}{text:?<3}" for q, text in enumerate(SOLUTIONS)]),
    }
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("fsdp",))
    cluster = rl_cluster.RLCluster(
        actor=taught_to_read(),
        tokenizer=Tokenizer(),
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh={role: mesh for role in rl_cluster.Role},
            rollout_engine=Rollout,
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.adam(3e-3), eval_every_n_steps=1000, max_steps=steps
            ),
            rollout_config=base_rollout.RolloutConfig(
                max_tokens_to_generate=LENGTH, max_prompt_length=1 + LENGTH, temperature=1.0
            ),
        ),
    )
    learner = Learner(
        rl_cluster=cluster,
        algo_config=grpo_learner.GRPOConfig(policy_loss_fn="sdpo", num_generations=4, beta=0.0),
        reward_fns=reward,
    )
    learner.train([batch] * steps)
    return rewards


if __name__ == "__main__":
    rewards = run()
    print(f"reward {rewards[0]:.2f} -> {rewards[-1]:.2f}")
