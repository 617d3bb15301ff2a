"""How often the drafting layer is right, on held-out text.

Greedy: the share of positions where its likeliest token is the model's own likeliest there. Sampled: the mean of
sum(min(p, q)) over the model's distribution p and the drafted q, which is what speculative sampling accepts at
temperature 1 (arXiv:2211.17192). Both with held-out text in front, as in prompts; one drafted token a step.
"""

from __future__ import annotations

import torch
from model import CausalLM


@torch.no_grad()
def acceptance(model: CausalLM, rows: torch.Tensor, at_once: int = 8) -> dict[str, float]:
    """rows [n, context + 1] -> {"greedy", "sampled"}."""
    greedy = sampled = count = 0.0
    for batch in rows.split(at_once):
        out = model(batch[:, :-1], batch[:, 1:])
        own, draft = out.logits[:, 1:].float(), out.draft[:, :-1].float()  # both of token i + 2
        greedy += float((own.argmax(-1) == draft.argmax(-1)).sum())
        sampled += float(torch.minimum(own.softmax(-1), draft.softmax(-1)).sum())
        count += own.shape[0] * own.shape[1]
    return {"greedy": greedy / count, "sampled": sampled / count}
