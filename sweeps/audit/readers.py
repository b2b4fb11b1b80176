"""What readers are told of each contender: one line, and where its equation is from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """A contender for readers.

    Attributes:
        line: what it does, in one line.
        source: the paper and place of its equation.
        link: where that paper is, or ``None`` where it has no address.
    """

    line: str
    source: str
    link: str | None = None


def _arxiv(number: str) -> str:
    return f"https://arxiv.org/abs/{number}"


_STUDY = "the paper at hand"
_AUTHORS = "Huebotter et al. (SDPO)"
_SDPO = _arxiv("2601.20802")
_OWN = "the paper at hand, future work (section 4); our reading"

READINGS: dict[str, Reading] = {
    "reinforce": Reading(
        "Every token of a rollout is pushed by its reward less the mean of the step's rollouts.",
        f"{_STUDY}, Eq. 4; Williams (1992); on one length also Dr. GRPO, Liu et al.",
        _arxiv("2503.20783"),
    ),
    "rloo": Reading(
        "REINFORCE with the mean of the other rollouts as the baseline of each.",
        "Ahmadian et al., RLOO",
        _arxiv("2402.14740"),
    ),
    "grpo": Reading(
        "REINFORCE with the rewards of a step divided by their standard deviation.",
        "Shao et al. (DeepSeekMath), Eq. 3",
        _arxiv("2402.03300"),
    ),
    "ppo": Reading(
        "Four steps on each batch, the probability ratio clipped; the batch mean as baseline.",
        "Schulman et al., Eq. 7",
        _arxiv("1707.06347"),
    ),
    "dpo": Reading(
        "Rollouts in pairs; the policy itself is the reward model of the preferred one.",
        "Rafailov et al., Eq. 7; drawn anew at each step as by Guo et al.",
        _arxiv("2305.18290"),
    ),
    "dpo_best_worst": Reading(
        "DPO on one pair a step: the best rollout against the worst.",
        "Rafailov et al., Eq. 7; pairs as by Yuan et al.",
        _arxiv("2401.10020"),
    ),
    "rlhf": Reading(
        "A reward model is fitted to preferences between rollouts; RLOO learns from the model.",
        "Ouyang et al., Eq. 1",
        _arxiv("2203.02155"),
    ),
    "process_reward_learned": Reading(
        "A fitted value of prefixes; each token is credited with the change that it makes.",
        "Havrilla et al. (GLoRe)",
        _arxiv("2402.10963"),
    ),
    "sdft": Reading(
        "Distils the policy that has read its own best rollout of the step as a demonstration.",
        "Shenfeld et al.",
        _arxiv("2601.19897"),
    ),
    "scar": Reading(
        "The reward is shared among the tokens by their exact Shapley values.",
        "Cao et al.",
        _arxiv("2505.20417"),
    ),
    "scar_sampled": Reading(
        "The same with Shapley values estimated from a few orders of the tokens.",
        "Cao et al.",
        _arxiv("2505.20417"),
    ),
    "process_reward": Reading(
        "Each token is credited with what it adds to the expected reward, computed exactly.",
        "Lightman et al.; Havrilla et al.",
        _arxiv("2305.20050"),
    ),
    "dense_reward": Reading(
        "The reward is spread over the tokens by the attention of the reward model.",
        "Chan et al.",
        _arxiv("2402.00782"),
    ),
    "sdpo": Reading(
        "Distils the policy that was shown feedback and q: forward KL to the live teacher.",
        f"{_STUDY}, Eq. 3",
    ),
    "sdpo_reverse": Reading("SDPO with the reverse KL divergence.", _AUTHORS, _SDPO),
    "sdpo_jsd": Reading("SDPO with the Jensen-Shannon divergence.", _AUTHORS, _SDPO),
    "sdpo_forward_ema": Reading(
        "SDPO whose teacher is an average of the student over past steps (EMA).", _AUTHORS, _SDPO
    ),
    "sdpo_reverse_ema": Reading("The same with the reverse KL divergence.", _AUTHORS, _SDPO),
    "sdpo_jsd_ema": Reading("The same with the Jensen-Shannon divergence.", _AUTHORS, _SDPO),
    "sdpo_forward_trust": Reading(
        "SDPO whose teacher lies between the first policy and the student (trust region).",
        _AUTHORS,
        _SDPO,
    ),
    "sdpo_reverse_trust": Reading("The same with the reverse KL divergence.", _AUTHORS, _SDPO),
    "sdpo_jsd_trust": Reading("The same with the Jensen-Shannon divergence.", _AUTHORS, _SDPO),
    "sdpo_jsd_ema_top_k": Reading(
        "The SDPO authors' default: Jensen-Shannon, averaged teacher, the top tokens only.",
        _AUTHORS,
        _SDPO,
    ),
    "distillation": Reading(
        "Distils a fixed teacher: the first policy, shown q once and for all. Asks for no reward.",
        "Hinton, Vinyals and Dean",
        _arxiv("1503.02531"),
    ),
    "advantage_weighted": Reading(
        "REINFORCE with the advantage multiplied by the token's own advantage under q.",
        f"{_STUDY}, Eq. 5",
    ),
    "hybrid": Reading(
        "SDPO while teacher and student disagree, REINFORCE when they agree.",
        f"{_STUDY}, Eq. 6",
    ),
    "sdpo_entropy": Reading("SDPO with a bonus for the entropy of the policy.", _OWN),
    "sdpo_mixture_probs": Reading(
        "SDPO with four teachers whose probabilities are averaged.", _OWN
    ),
    "sdpo_mixture_logits": Reading("SDPO with four teachers whose logits are averaged.", _OWN),
    "sdpo_annealed": Reading("SDPO whose teacher is shown less and less of q.", _OWN),
    "opsd": Reading(
        "Distils the first policy that has read the best sequence. Asks for no reward.",
        "Zhao et al. (OPSD)",
        _arxiv("2601.18734"),
    ),
}
