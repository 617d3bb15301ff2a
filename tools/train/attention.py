"""Attention for training: latent (MLA, DeepSeek-V3's names) and grouped (MHA, GQA, MQA, Llama's names).

Shapes: B rows, T tokens, H query heads, G key/value heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from config import Config
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * self.weight).to(x.dtype)


def linear(rows_in: int, rows_out: int) -> nn.Linear:
    return nn.Linear(rows_in, rows_out, bias=False)


def rotate_pairs(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs (2 i, 2 i + 1), as DeepSeek does. x [..., T, rope], cos and sin [T, rope / 2]."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def rotate_halves(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs (i, i + D / 2), as Llama does. x [..., T, D], cos and sin [T, D / 2]."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)


class LatentAttention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        heads, qk = c.num_attention_heads, c.qk_nope_head_dim + c.qk_rope_head_dim
        self.q_proj = linear(c.hidden_size, heads * qk)
        self.kv_a_proj_with_mqa = linear(c.hidden_size, c.kv_lora_rank + c.qk_rope_head_dim)
        self.kv_a_layernorm = RMSNorm(c.kv_lora_rank, c.rms_norm_eps)
        self.kv_b_proj = linear(c.kv_lora_rank, heads * (c.qk_nope_head_dim + c.v_head_dim))
        self.o_proj = linear(heads * c.v_head_dim, c.hidden_size)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:  # x [B, T, hidden]
        c, (b, t, _) = self.c, x.shape
        heads = c.num_attention_heads
        q = self.q_proj(x).view(b, t, heads, -1).transpose(1, 2)  # [B, H, T, nope + rope]
        q_nope, q_rope = q.split((c.qk_nope_head_dim, c.qk_rope_head_dim), -1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((c.kv_lora_rank, c.qk_rope_head_dim), -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).view(b, t, heads, -1).transpose(1, 2)
        k_nope, v = kv.split((c.qk_nope_head_dim, c.v_head_dim), -1)
        k_rope = rotate_pairs(k_rope[:, None], cos, sin).expand(-1, heads, -1, -1)
        q = torch.cat((q_nope, rotate_pairs(q_rope, cos, sin)), -1)
        k = torch.cat((k_nope, k_rope), -1)
        v = F.pad(v, (0, q.shape[-1] - c.v_head_dim))  # one head size for the fused kernel
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)[..., : c.v_head_dim]
        return self.o_proj(o.transpose(1, 2).flatten(2))


class GroupedAttention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.groups = c.num_attention_heads, c.num_key_value_heads
        self.q_proj = linear(c.hidden_size, self.heads * c.head_dim)
        self.k_proj = linear(c.hidden_size, self.groups * c.head_dim)
        self.v_proj = linear(c.hidden_size, self.groups * c.head_dim)
        self.o_proj = linear(self.heads * c.head_dim, c.hidden_size)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:  # x [B, T, hidden]
        b, t, _ = x.shape
        split = lambda y, n: y.view(b, t, n, -1).transpose(1, 2)  # [B, n, T, D]
        q = rotate_halves(split(self.q_proj(x), self.heads), cos, sin)
        k = rotate_halves(split(self.k_proj(x), self.groups), cos, sin)
        v = split(self.v_proj(x), self.groups)
        repeat = self.heads // self.groups
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(o.transpose(1, 2).flatten(2))


def attention(c: Config) -> nn.Module:
    return LatentAttention(c) if c.latent else GroupedAttention(c)
