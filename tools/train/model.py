"""DeepSeek-V3's and Llama's decoder in small, written for training.

Parameters carry the names of the published checkpoints (model.layers.N.self_attn.kv_a_proj_with_mqa.weight, ...), so the
state dict is the checkpoint. With a handful of small experts it is fastest to compute all of them and weight by zero.

The layer after the last one drafts (multi-token prediction, arXiv:2412.19437, 2.2): from the hidden state at a position,
after the final norm, and the token at the next, it predicts the one after that. Embedding and head are the model's own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from attention import RMSNorm, attention, linear
from config import Config
from torch import nn


class MLP(nn.Module):
    def __init__(self, hidden: int, intermediate: int):
        super().__init__()
        self.gate_proj = linear(hidden, intermediate)
        self.up_proj = linear(hidden, intermediate)
        self.down_proj = linear(intermediate, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    """Sigmoid scores; the bias decides which experts are taken, never how much they weigh."""

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.weight = nn.Parameter(torch.empty(c.n_routed_experts, c.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(c.n_routed_experts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., hidden] -> weights [..., experts] fp32, zero where not chosen."""
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.weight.float()).sigmoid()
        chosen = (scores.detach() + self.e_score_correction_bias).topk(self.c.num_experts_per_tok, -1).indices
        mask = torch.zeros_like(scores).scatter(-1, chosen, 1.0)
        picked = scores * mask
        return picked / (picked.sum(-1, keepdim=True) + 1e-20) * self.c.routed_scaling_factor


class MoE(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate = Gate(c)
        self.experts = nn.ModuleList(MLP(c.hidden_size, c.moe_intermediate_size) for _ in range(c.n_routed_experts))
        self.shared_experts = MLP(c.hidden_size, c.moe_intermediate_size * c.n_shared_experts)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the output and the tokens each expert got [experts]."""
        weights = self.gate(x)
        every = [*self.experts, self.shared_experts]
        gate = torch.cat([e.gate_proj.weight for e in every])
        up = torch.cat([e.up_proj.weight for e in every])
        down = torch.cat([e.down_proj.weight for e in every], dim=1)
        width = self.experts[0].gate_proj.weight.shape[0]
        shared = torch.ones_like(weights[..., :1]).expand(
            *weights.shape[:-1], down.shape[1] // width - len(self.experts)
        )
        scale = torch.cat((weights, shared), -1).repeat_interleave(width, -1)
        h = F.silu(F.linear(x, gate)) * F.linear(x, up)
        load = (weights.detach() > 0).flatten(0, -2).sum(0)
        return F.linear(h * scale.to(h.dtype), down), load


class Layer(nn.Module):
    def __init__(self, c: Config, index: int):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        dense = not c.latent or index < c.first_k_dense_replace
        self.mlp = MLP(c.hidden_size, c.intermediate_size) if dense else MoE(c)

    def forward(self, x, cos, sin) -> tuple[torch.Tensor, torch.Tensor | None]:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        y, load = self.mlp(self.post_attention_layernorm(x)), None
        if isinstance(y, tuple):
            y, load = y
        return x + y, load


class SharedHead(nn.Module):
    """The norm before the head; the head itself is the embedding."""

    def __init__(self, c: Config):
        super().__init__()
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)


class DraftLayer(Layer):
    def __init__(self, c: Config, index: int):
        super().__init__(c, index)
        self.enorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.hnorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.eh_proj = linear(2 * c.hidden_size, c.hidden_size)
        self.shared_head = SharedHead(c)

    def draft(self, hidden, following, cos, sin) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Hidden states and the embeddings of the tokens after them, both [B, T, hidden] -> states to score."""
        x = self.eh_proj(torch.cat((self.enorm(following), self.hnorm(hidden)), -1))
        x, load = self(x, cos, sin)
        return self.shared_head.norm(x), load


class Decoder(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        layers: list[Layer] = [Layer(c, i) for i in range(c.num_hidden_layers)]
        if c.latent:
            layers += [DraftLayer(c, c.num_hidden_layers + i) for i in range(c.num_nextn_predict_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)


class Output(NamedTuple):
    logits: torch.Tensor  # [B, T, vocab], of the token after each
    draft: torch.Tensor | None  # [B, T, vocab], of the token after that one; where the batch gave `following`
    loads: torch.Tensor  # [MoE layers, experts], tokens each expert got


class CausalLM(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        assert c.num_nextn_predict_layers <= 1, "one drafting layer at most"
        self.c = c
        self.model = Decoder(c)
        freq = c.rope_theta ** (-torch.arange(0, c.rotated_dim, 2, dtype=torch.float64) / c.rotated_dim)
        angle = torch.arange(c.max_position_embeddings, dtype=torch.float64)[:, None] * freq
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        residual_scale = (2 * c.num_hidden_layers) ** -0.5
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = c.initializer_range
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= residual_scale
                nn.init.normal_(p, std=std)

    @property
    def drafts(self) -> bool:
        return isinstance(self.model.layers[-1], DraftLayer)

    def forward(self, tokens: torch.Tensor, following: torch.Tensor | None = None) -> Output:
        """tokens [B, T]; following [B, T], the token after each, for the drafting layer."""
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        embed = self.model.embed_tokens
        x, loads = embed(tokens), []
        for layer in self.model.layers[: self.c.num_hidden_layers]:
            x, load = layer(x, cos, sin)
            loads.append(load)
        x = self.model.norm(x)
        logits, draft = F.linear(x, embed.weight), None
        if following is not None and self.drafts:
            y, load = self.model.layers[-1].draft(x, embed(following), cos, sin)
            draft = F.linear(y, embed.weight)
            loads.append(load)
        loads = [load for load in loads if load is not None]
        return Output(logits, draft, torch.stack(loads) if loads else logits.new_zeros(0, 1))

    def gates(self) -> list[Gate]:
        return [layer.mlp.gate for layer in self.model.layers if isinstance(layer.mlp, MoE)]
