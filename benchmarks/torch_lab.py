"""The laboratory of networks as one would write it in PyTorch, batched over seeds.

The same transformer, world, sampling with kept keys and values, losses and Adam as
``sdpo_jax.in_context``, for GRPO on continuous feedback and for SDPO whose teacher is the network
reading a critique. Every array has a leading axis of runs, each with its own problem and its own
parameters; matrices of all runs are multiplied by one batched product.
"""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor  # pyright: ignore[reportMissingImports]

Params = dict[str, Tensor]

_EPSILON = 1e-6
_SILENT, _GOOD, _BAD = range(3)
_BAR, _CRITIQUE, _KINDS = 0.5, 3, 6
_NOISE, _HINT_NOISE = 0.1, 0.45


class Problems:
    """Eq. 1's rewards of so many runs."""

    def __init__(self, quality: Tensor, bigram: Tensor, target: Tensor, pattern_weight: float):
        """
        Args:
            quality: ``[R, T, V]``.
            bigram: ``[R, V, V]``.
            target: ``[R, T]``.
            pattern_weight: what a match with the target adds.
        """
        self.quality, self.bigram = quality, bigram
        matches = target[..., None] == torch.arange(quality.shape[-1])
        self.token_scores = quality + pattern_weight * matches

    def reward(self, tokens: Tensor) -> Tensor:
        """Of answers ``[R, N, T]``, ``[R, N]``."""
        runs, _, length = tokens.shape
        place = torch.arange(length)
        run = torch.arange(runs)[:, None, None]
        score = self.token_scores[run, place, tokens].sum(-1)
        score = score + self.bigram[run, tokens[..., :-1], tokens[..., 1:]].sum(-1)
        return torch.sigmoid(score / length)


class Lab:
    """Training of so many runs at a time."""

    def __init__(
        self, method: str, length: int, vocab_size: int, heads: int = 4, bins: int = 16
    ) -> None:
        self.method, self.length, self.vocab_size = method, length, vocab_size
        self.heads, self.bins = heads, bins
        self.start = 4 * vocab_size + bins + _KINDS
        self.answer_places = torch.arange(length)
        self.context_places = torch.tensor([length, length + 1, *range(length)])

    def read(self, params: Params, ids: Tensor, places: Tensor, last: int) -> Tensor:
        """Logits ``[R, N, last, V]`` of ids ``[R, N, S]``."""
        x = _embedded(params, ids, places)
        length, layers = ids.shape[-1], params["attention_in"].shape[1]
        for i in range(layers):
            first = length - last if i == layers - 1 else 0
            query, key, value = self._heads(params, i, x)
            visible = torch.arange(length) <= torch.arange(first, length)[:, None]
            mixed = F.scaled_dot_product_attention(query[..., first:, :], key, value, visible)
            x = self._block(params, i, x[:, :, first:], mixed)
        return _times(_normed(x), params["out"])

    def write(self, params: Params, uniforms: Tensor) -> Tensor:
        """Answers ``[R, N, T]`` from uniforms ``[R, N, T]``, keys and values kept."""
        layers = params["attention_in"].shape[1]
        kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(layers)]
        token = torch.full(uniforms.shape[:2], self.start)
        written = []
        for t in range(self.length):
            x = _embedded(params, token[..., None], self.answer_places[t : t + 1])
            for i in range(layers):
                query, key, value = self._heads(params, i, x)
                kept[i].append((key, value))
                keys, values = (torch.cat(each, -2) for each in zip(*kept[i], strict=True))
                x = self._block(params, i, x, F.scaled_dot_product_attention(query, keys, values))
            probs = _times(_normed(x), params["out"])[:, :, 0].softmax(-1)
            below = probs.cumsum(-1)
            token = (below < uniforms[..., t, None] * below[..., -1:]).sum(-1)
            token = token.clamp(max=self.vocab_size - 1)
            written.append(token)
        return torch.stack(written, -1)

    def logits(self, params: Params, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits ``[R, N, T, V]`` along answers ``[R, N, T]``, after contexts ``[R, N, C]``."""
        start = torch.full((*tokens.shape[:2], 1), self.start)
        ids, places = torch.cat((start, tokens[..., :-1]), -1), self.answer_places
        if context is not None:
            ids = torch.cat((context, ids), -1)
            places = torch.cat((self.context_places, places))
        return self.read(params, ids, places, self.length)

    def critique(self, problems: Problems, tokens: Tensor, score: Tensor, hints: Tensor) -> Tensor:
        """Contexts ``[R, N, T + 2]``: the kind, the score's bin, and each token with its mark."""
        base = 4 * self.vocab_size
        run = torch.arange(len(tokens))[:, None, None]
        hint = problems.quality[run, torch.arange(self.length), tokens] + _HINT_NOISE * hints
        marks = torch.where(hint > _BAR, _GOOD, torch.where(hint < -_BAR, _BAD, _SILENT))
        bins = (score * self.bins).long().clamp(0, self.bins - 1)
        kind = torch.full((*tokens.shape[:2], 1), base + self.bins + _CRITIQUE)
        said = self.vocab_size * (1 + marks) + tokens
        return torch.cat((kind, (base + bins)[..., None], said), -1)

    def loss(
        self, student: Tensor, tokens: Tensor, score: Tensor, teacher: Tensor | None
    ) -> Tensor:
        """The method's loss, summed over the runs."""
        log_probs = student.log_softmax(-1)
        if teacher is None:
            centred = score - score.mean(-1, keepdim=True)
            advantage = centred / (score.std(-1, keepdim=True) + 1e-6)
            chosen = log_probs.gather(-1, tokens[..., None])[..., 0]
            ratio = torch.exp(chosen - chosen.detach())
            return -(ratio * advantage[..., None]).mean((1, 2)).sum()
        log_teacher = teacher.log_softmax(-1)
        return (log_teacher.exp() * (log_teacher - log_probs)).sum(-1).mean((1, 2)).sum()

    def train(self, first: Params, problems: Problems, steps: int, rollouts: int) -> dict[str, Any]:
        """Train every run from parameters ``[R, ...]``: curves ``[steps, R]`` by name."""
        params = {name: each.clone().requires_grad_() for name, each in first.items()}
        optimizer = torch.optim.Adam(params.values(), lr=1e-3)
        runs = len(problems.quality)
        curves: dict[str, list[Tensor]] = {"reward": [], "entropy": []}
        for _ in range(steps):
            with torch.no_grad():
                tokens = self.write(params, torch.rand(runs, rollouts, self.length))
                reward = problems.reward(tokens)
                score = (reward + _NOISE * torch.randn(reward.shape)).clamp(0, 1)
                teacher = None
                if self.method == "sdpo_live_forward":
                    hints = torch.randn(tokens.shape)
                    context = self.critique(problems, tokens, score, hints)
                    teacher = self.logits(params, tokens, context)
            student = self.logits(params, tokens)
            optimizer.zero_grad(set_to_none=True)
            self.loss(student, tokens, score, teacher).backward()
            optimizer.step()
            with torch.no_grad():
                log_probs = student.log_softmax(-1)
                curves["entropy"].append(-(log_probs.exp() * log_probs).sum(-1).mean((1, 2)))
                curves["reward"].append(reward.mean(-1))
        return {name: torch.stack(each) for name, each in curves.items()}

    def _heads(self, params: Params, i: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each ``[R, N, H, S, D]``."""
        found = _times(_normed(x), params["attention_in"][:, i])
        runs, count, length, _ = x.shape
        shape = (runs, count, length, 3, self.heads, x.shape[-1] // self.heads)
        query, key, value = found.view(shape).permute(3, 0, 1, 4, 2, 5)
        return query, key, value

    def _block(self, params: Params, i: int, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + _times(mixed.transpose(2, 3).reshape(x.shape), params["attention_out"][:, i])
        hidden = F.relu(_times(_normed(x), params["hidden_in"][:, i]))
        return x + _times(hidden, params["hidden_out"][:, i])


def _times(x: Tensor, weights: Tensor) -> Tensor:
    """``[R, N, S, W]`` times ``[R, K, W]``: one batched product."""
    runs, count, length, width = x.shape
    found = torch.bmm(x.reshape(runs, count * length, width), weights.transpose(1, 2))
    return found.view(runs, count, length, -1)


def _normed(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + _EPSILON)


def _embedded(params: Params, ids: Tensor, places: Tensor) -> Tensor:
    run = torch.arange(len(ids))[:, None, None]
    return params["embed"][run, ids] + params["place"][:, places][:, None]


def stacked(params: Any) -> Params:
    """The library's parameters ``[R, ...]`` as tensors, those of the layers ``[R, L, ...]``."""
    flat = {name: params[name] for name in ("embed", "place", "out")} | dict(params["layers"])
    return {name: torch.tensor(each.__array__()) for name, each in flat.items()}


def problems_of(problem: Any) -> Problems:
    """The library's problems of several seeds, whose runs come last."""
    quality, bigram, target = (
        torch.tensor(each.__array__()).movedim(-1, 0)
        for each in (problem.quality, problem.bigram, problem.target)
    )
    return Problems(quality, bigram, target.long(), float(problem.pattern_weight.reshape(-1)[0]))
