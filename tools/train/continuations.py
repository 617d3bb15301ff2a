"""Continuations by transformers of many prompts at once, padded on the left."""

from __future__ import annotations

import torch


@torch.no_grad()
def continuations(
    model, prompts: list[list[int]], tokens: int, end: int, pad: int, **sampling
) -> tuple[list[list[int]], list[list[float]]]:
    """At most `tokens` tokens after each prompt, up to `end`; and the gap between the two best logits before each."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    out = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=tokens,
        eos_token_id=end,
        pad_token_id=pad,
        output_logits=True,
        return_dict_in_generate=True,
        **sampling,
    )
    best = torch.stack(out.logits, 1).float().topk(2, -1).values  # [prompts, steps, 2]
    gaps = (best[..., 0] - best[..., 1]).tolist()
    said = out.sequences[:, longest:].tolist()
    lengths = [row.index(end) + 1 if end in row else len(row) for row in said]
    return [row[:n] for row, n in zip(said, lengths, strict=True)], [
        [round(gap, 5) for gap in row[:n]] for row, n in zip(gaps, lengths, strict=True)
    ]
