"""Shapes of the models trained here, and their config.json in the published forms."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

DEEPSEEK, LLAMA = "DeepseekV3ForCausalLM", "LlamaForCausalLM"


@dataclass(frozen=True)
class Config:
    """The defaults are latent-mini's. Layers from `first_k_dense_replace` on have experts, in the DeepSeek layout only."""

    architecture: str = DEEPSEEK
    vocab_size: int = 4096
    hidden_size: int = 256
    num_hidden_layers: int = 7
    num_nextn_predict_layers: int = 1  # layers after the last that draft the token after the next (MTP)
    num_attention_heads: int = 8
    num_key_value_heads: int = 8  # Llama layout: MHA if equal to the heads, MQA if 1, GQA between
    head_dim: int = 32  # Llama layout
    kv_lora_rank: int = 128
    qk_rope_head_dim: int = 32
    qk_nope_head_dim: int = 32
    v_head_dim: int = 32
    intermediate_size: int = 768
    moe_intermediate_size: int = 128
    n_routed_experts: int = 4
    num_experts_per_tok: int = 2
    n_shared_experts: int = 1
    first_k_dense_replace: int = 1
    routed_scaling_factor: float = 1.5
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 1024
    initializer_range: float = 0.02

    @classmethod
    def read(cls, path: Path) -> Config:
        """The Config of a config.json that `published` wrote."""
        value = json.loads(path.read_text())
        known = {f.name for f in fields(cls)} & value.keys()
        return cls(architecture=value["architectures"][0], **{name: value[name] for name in known})

    @property
    def latent(self) -> bool:
        return self.architecture == DEEPSEEK

    @property
    def rotated_dim(self) -> int:
        return self.qk_rope_head_dim if self.latent else self.head_dim

    @property
    def cached_numbers(self) -> int:
        """Numbers that the cache keeps of one token in one layer."""
        if self.latent:
            return self.kv_lora_rank + self.qk_rope_head_dim
        return 2 * self.num_key_value_heads * self.head_dim

    def published(self, bos: int, eos: int) -> dict:
        """config.json in the form of DeepSeek-V3's or Llama's."""
        common = {
            "architectures": [self.architecture],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_attention_heads if self.latent else self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": None,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": self.vocab_size,
        }
        own = self._published_deepseek() if self.latent else self._published_llama()
        return dict(sorted((common | own).items()))

    def _published_llama(self) -> dict:
        return {"head_dim": self.head_dim, "mlp_bias": False, "model_type": "llama"}

    def _published_deepseek(self) -> dict:
        return {
            "first_k_dense_replace": self.first_k_dense_replace,
            "kv_lora_rank": self.kv_lora_rank,
            "model_type": "deepseek_v3",
            "moe_intermediate_size": self.moe_intermediate_size,
            "moe_layer_freq": 1,
            "n_group": 1,
            "n_routed_experts": self.n_routed_experts,
            "n_shared_experts": self.n_shared_experts,
            "norm_topk_prob": True,
            "num_experts_per_tok": self.num_experts_per_tok,
            "num_nextn_predict_layers": self.num_nextn_predict_layers,
            "q_lora_rank": None,
            "qk_nope_head_dim": self.qk_nope_head_dim,
            "qk_rope_head_dim": self.qk_rope_head_dim,
            "rope_interleave": True,
            "routed_scaling_factor": self.routed_scaling_factor,
            "scoring_func": "sigmoid",
            "topk_group": 1,
            "topk_method": "noaux_tc",
            "v_head_dim": self.v_head_dim,
        }
