"""What TRL's losses give on random input, values and gradients, as a small file.

    python tests/losses/record.py

wants PyTorch and TRL (``pip install -e '.[trl]'``) and writes ``recorded.npz`` beside itself. It
imports nothing of ours. Functions of TRL are called as they are; of a trainer only the loss is
called, on a stand-in that holds what the loss reads.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np

FILE = Path(__file__).with_name("recorded.npz")

BATCH, LENGTH, VOCAB_SIZE = 4, 5, 11
LENGTHS = (5, 2, 0, 4)
MIXES = (0.0, 0.3, 1.0)
TOP_K = (4, 11)
TEMPERATURES = (2.0,)
CLIPS = (0.8, 2.0)
REDUCTIONS = ("grpo", "bnpo", "dr_grpo", "dapo")
BANDS = ((0.2, 0.2), (0.2, 0.28))
# Of whole sequences, whose ratios are nearer to 1; and the largest ratio where A < 0.
SEQUENCE_BAND = (0.03, 0.04)
DUAL_CLIPS = (1.3, 3.0)
LONGEST = 16
KL_WEIGHT = 0.04
ENTROPY_WEIGHT = 0.01
STRENGTHS = (0.1, 2.0)


def inputs() -> dict[str, np.ndarray]:
    """Random arrays, the same for every version of TRL."""
    draw = np.random.RandomState(5)
    logits = draw.normal(0, 1.5, (4, BATCH, LENGTH, VOCAB_SIZE)).astype(np.float32)
    student, teacher, reference, noise = logits
    return {
        "student": student,
        "teacher": teacher,
        "reference": reference,
        # Near the student, so that ratios lie on both sides of every clip.
        "old": (student + 0.3 * noise).astype(np.float32),
        "tokens": draw.randint(0, VOCAB_SIZE, (BATCH, LENGTH)),
        "mask": np.arange(LENGTH) < np.array(LENGTHS)[:, None],
        "advantages": draw.normal(size=BATCH).astype(np.float32),
    }


def record() -> dict[str, np.ndarray]:
    """Every case's value and its gradient by the student's logits, by name."""
    import torch
    import trl
    from trl import DPOTrainer, GRPOTrainer
    from trl.experimental.gkd import GKDTrainer
    from trl.experimental.iw_opd import IWOPDTrainer
    from trl.experimental.sdpo import loss_utils
    from trl.experimental.sdpo.sdpo_trainer import SDPOTrainer
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax

    given = inputs()
    fixed = {name: torch.as_tensor(array) for name, array in given.items()}
    teacher, tokens, mask = fixed["teacher"], fixed["tokens"], fixed["mask"].long()
    old, reference = (
        selective_log_softmax(fixed[name], tokens).detach() for name in ("old", "reference")
    )
    # A gradient of values per token is one of their sum with these weights.
    weights = torch.linspace(0.5, 1.5, BATCH * LENGTH).reshape(BATCH, LENGTH)
    found = {"versions": np.array([f"trl {trl.__version__}", f"torch {torch.__version__}"])}

    def add(name, loss):
        leaf = torch.tensor(given["student"], requires_grad=True)
        value = loss(leaf)
        (value * weights if value.ndim else value).sum().backward()
        found[f"{name}/value"] = value.detach().numpy()
        found[f"{name}/gradient"] = leaf.grad.numpy()

    # Values per token

    for mix in MIXES:
        add(
            f"full/{mix}",
            lambda leaf, mix=mix: loss_utils.compute_full_logit_self_distillation_loss(
                leaf, teacher, distillation_alpha=mix
            ),
        )
        for temperature in TEMPERATURES:
            add(
                f"gkd/{mix}/{temperature}",
                lambda leaf, mix=mix, temperature=temperature: GKDTrainer.generalized_jsd_loss(
                    leaf, teacher, beta=mix, temperature=temperature, reduction="none"
                ).sum(-1),
            )
        for top_k in TOP_K:
            for tail in (True, False):
                add(
                    f"top_k/{mix}/{top_k}/{tail}",
                    lambda leaf, mix=mix, top_k=top_k, tail=tail: (
                        loss_utils.compute_topk_self_distillation_loss(
                            leaf,
                            teacher,
                            distillation_topk=top_k,
                            distillation_alpha=mix,
                            distillation_add_tail=tail,
                        )
                    ),
                )

    def on_the_teachers_support(leaf, mix, top_k, tail):
        # As their trainer does with a teacher on a server, which tells its likeliest tokens only.
        shown, places = torch.topk(torch.log_softmax(teacher, -1), top_k)
        mine = torch.gather(torch.log_softmax(leaf, -1), -1, places)
        if tail:
            both = [loss_utils.add_tail_bucket(each) for each in (mine, shown)]
        else:
            both = [each - torch.logsumexp(each, -1, keepdim=True) for each in (mine, shown)]
        return loss_utils.compute_divergence(*both, mix)

    for mix in MIXES:
        for tail in (True, False):
            add(
                f"teachers_top_k/{mix}/4/{tail}",
                lambda leaf, mix=mix, tail=tail: on_the_teachers_support(leaf, mix, 4, tail),
            )

    for top_k in TOP_K:
        for tail in (True, False):
            add(
                f"union/0.3/{top_k}/{tail}",
                lambda leaf, top_k=top_k, tail=tail: IWOPDTrainer.generalized_jsd_loss(
                    leaf, teacher, beta=0.3, reduction="none", top_k=top_k, add_tail=tail
                ).sum(-1),
            )

    add("log_probs", lambda leaf: selective_log_softmax(leaf, tokens))
    add("entropy", entropy_from_logits)

    def sampled(leaf):
        return loss_utils.compute_sampled_token_self_distillation_loss(
            leaf, teacher, tokens, distillation_alpha=1.0
        )

    add("sampled", sampled)
    for clip in CLIPS:
        add(
            f"sampled/{clip}",
            lambda leaf, clip=clip: loss_utils.apply_importance_sampling_clipping(
                sampled(leaf), selective_log_softmax(leaf, tokens), old, clip
            ),
        )

    # Whole losses, of batches with padding and a sequence without a token

    for mode, options in {
        "full_logits": {"distillation_alpha": 0.5},
        "topk_logits": {
            "distillation_alpha": 0.5,
            "distillation_topk": 4,
            "distillation_add_tail": True,
        },
        "sampled_token": {"distillation_alpha": 1.0},
    }.items():

        def self_distillation(leaf, mode=mode, options=options):
            trainer = stand_in(
                args=SimpleNamespace(distillation_mode=mode, distillation_is_clip=2.0, **options),
                _log_self_distillation_metric=lambda *_: None,
            )
            logits = SimpleNamespace(
                student_logits=leaf,
                teacher_logits=teacher,
                completion_ids=tokens,
                loss_mask=mask,
            )
            return SDPOTrainer._compute_self_distillation_loss(
                trainer, trainer.model, {"old_per_token_logps": old}, logits
            )

        add(f"sdpo/{mode}", self_distillation)

    def grpo(leaf, kind, low, high, kl_weight=0.0, entropy_weight=0.0, level="token", dual=None):
        def per_token(*_, **__):
            return selective_log_softmax(leaf, tokens), entropy_from_logits(leaf), None

        trainer = stand_in(
            loss_type=kind,
            beta=kl_weight,
            epsilon_low=low,
            epsilon_high=high,
            importance_sampling_level=level,
            top_entropy_quantile=1.0,
            off_policy_mask_threshold=None,
            use_vllm=False,
            aux_loss_enabled=False,
            current_gradient_accumulation_steps=1,
            max_completion_length=LONGEST,
            args=SimpleNamespace(delta=dual, use_bias_correction_kl=False, steps_per_generation=1),
            _entropy_bonus_enabled=entropy_weight > 0,
            use_adaptive_entropy=False,
            entropy_coef=entropy_weight,
            _get_per_token_logps_and_entropies=per_token,
        )
        batch = {
            "prompt_ids": tokens[:, :1],
            "prompt_mask": torch.ones_like(tokens[:, :1]),
            "completion_ids": tokens,
            "completion_mask": mask,
            "advantages": fixed["advantages"],
            "old_per_token_logps": old,
            "ref_per_token_logps": reference,
            "num_items_in_batch": mask.sum(),
        }
        return GRPOTrainer._compute_loss(trainer, None, batch)

    for kind in REDUCTIONS:
        for low, high in BANDS:
            add(
                f"grpo/{kind}/{low}/{high}",
                lambda leaf, kind=kind, low=low, high=high: grpo(leaf, kind, low, high),
            )
        add(
            f"grpo/{kind}/sequence",
            lambda leaf, kind=kind: grpo(leaf, kind, *SEQUENCE_BAND, level="sequence"),
        )
    for dual in DUAL_CLIPS:
        add(f"grpo/dual/{dual}", lambda leaf, dual=dual: grpo(leaf, "dapo", 0.2, 0.28, dual=dual))
    add("grpo/kl", lambda leaf: grpo(leaf, "grpo", 0.2, 0.2, kl_weight=KL_WEIGHT))
    add("grpo/entropy", lambda leaf: grpo(leaf, "dapo", 0.2, 0.2, entropy_weight=ENTROPY_WEIGHT))

    def dpo(leaf, strength):
        nothing = torch.zeros(BATCH, LENGTH)

        def model(**_):
            return SimpleNamespace(
                # Theirs are 0 where a token is no part of the completion.
                log_probs=selective_log_softmax(leaf, tokens) * mask,
                entropy=nothing,
                mean_logits=nothing,
                is_top1=nothing.bool(),
            )

        trainer = stand_in(
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=["sigmoid"],
            loss_weights=[1.0],
            beta=strength,
            use_weighting=False,
            _total_train_tokens=0,
            _tp_size=1,
        )
        whole = torch.cat((torch.zeros_like(mask[:, :1]), mask), 1)
        before = (reference * mask).sum(1)
        batch = {
            "input_ids": torch.zeros_like(whole),
            "attention_mask": torch.ones_like(whole),
            "completion_mask": whole,
            "ref_chosen_logps": before[: BATCH // 2],
            "ref_rejected_logps": before[BATCH // 2 :],
        }
        return DPOTrainer._compute_loss(trainer, model, batch, False)

    for strength in STRENGTHS:
        add(f"dpo/{strength}", lambda leaf, strength=strength: dpo(leaf, strength))
    return found


class Accelerator:
    """One process: what is gathered is what was given."""

    device = "cpu"
    num_processes = 1
    sync_gradients = True

    def gather(self, value):
        """As it is."""
        return value

    gather_for_metrics = gather

    def reduce(self, value, reduction):
        """As it is."""
        return value


def stand_in(**fields) -> SimpleNamespace:
    """A trainer that has only what its loss reads."""
    metrics = defaultdict(lambda: defaultdict(list))
    model = SimpleNamespace(training=True)
    return SimpleNamespace(model=model, accelerator=Accelerator(), _metrics=metrics, **fields)


if __name__ == "__main__":
    results = record()
    np.savez_compressed(FILE, **results)
    print(f"{len(results) // 2} cases of {', '.join(results['versions'])}: {FILE}")
