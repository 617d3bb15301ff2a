#!/usr/bin/env python3
"""Makes the tiny random checkpoints of tests/data/tiny: published config.json form, seeded weights.

    tools/golden/make_tiny_checkpoints.py tests/data/tiny

Each checkpoint exercises one row of the model variants. Their golden logits come from
make_golden.py, which needs torch and transformers; this script needs nothing but Python. The
weights of a checkpoint depend on its name alone, so that adding one changes no other.
"""

import argparse
import json
import math
import random
import zlib
from pathlib import Path
from typing import Any

from tensor_file import Tensor, write_safetensors

Config = dict[str, Any]

SHAPE: Config = {
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "vocab_size": 256,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "use_cache": True,
}

V2: Config = SHAPE | {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
}

V3: Config = SHAPE | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "n_group": 4,
    "topk_group": 2,
    "num_experts_per_tok": 3,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "num_nextn_predict_layers": 0,
}


LLAMA: Config = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "use_cache": True,
}


def llama3(factor: float) -> Config:
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": int(256 / factor),
    }


def yarn(factor: float, mscale: float, mscale_all_dim: float) -> Config:
    return {
        "type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": int(256 / factor),
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": mscale,
        "mscale_all_dim": mscale_all_dim,
    }


CHECKPOINTS: dict[str, Config] = {
    # V2-Lite's gate without yarn.
    "v2-greedy-fp32": V2 | {"torch_dtype": "float32", "n_shared_experts": 2},
    # Compressed queries; values narrower than keys.
    "v2-qlora-yarn-fp32": V2
    | {
        "torch_dtype": "float32",
        "q_lora_rank": 24,
        "qk_nope_head_dim": 24,
        "v_head_dim": 8,
        "rope_scaling": yarn(4, 0.707, 0.707),
    },
    # V2's groups (score: the best expert), and yarn magnitudes that do not cancel.
    "v2-grouped-yarn-fp32": V2
    | {
        "torch_dtype": "float32",
        "q_lora_rank": 24,
        "topk_method": "group_limited_greedy",
        "n_group": 4,
        "topk_group": 2,
        "num_experts_per_tok": 3,
        "routed_scaling_factor": 4.0,
        "rope_scaling": yarn(4, 1.0, 0.5),
    },
    # V3: groups by the sum of two, correction bias, renormalised weights, two dense layers.
    "v3-grouped-yarn-fp32": V3
    | {
        "torch_dtype": "float32",
        "q_lora_rank": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "kv_lora_rank": 48,
        "rope_scaling": yarn(8, 1.0, 1.0),
    },
    # Moonlight's form: one group, plain rope, another theta and epsilon; tied head.
    "v3-one-group-fp32": V3
    | {
        "torch_dtype": "float32",
        "n_group": 1,
        "topk_group": 1,
        "routed_scaling_factor": 2.446,
        "rms_norm_eps": 1e-05,
        "rope_theta": 50000.0,
        "tie_word_embeddings": True,
    },
    # V2-Lite in small.
    "v2-yarn-bf16": V2
    | {
        "torch_dtype": "bfloat16",
        "n_shared_experts": 2,
        "rope_scaling": yarn(4, 0.707, 0.707),
    },
    # V3 in small.
    "v3-grouped-bf16": V3 | {"torch_dtype": "bfloat16", "q_lora_rank": 24},
    # MHA, the hidden state divided among the heads.
    "llama-mha-fp32": LLAMA | {"torch_dtype": "float32"},
    # Llama 3.2's form: groups of four heads, wider than their share, llama3 rope, a tied head.
    "llama-gqa-llama3-fp32": LLAMA
    | {
        "torch_dtype": "float32",
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_theta": 500000.0,
        "rope_scaling": llama3(8.0),
        "tie_word_embeddings": True,
    },
    "llama-mqa-linear-fp32": LLAMA
    | {
        "torch_dtype": "float32",
        "num_key_value_heads": 1,
        "head_dim": 12,
        "rms_norm_eps": 1e-02,
        "rope_scaling": {"type": "linear", "factor": 4.0},
    },
    # The form of transformers 5.
    "llama-gqa-bf16": {k: v for k, v in LLAMA.items() if k not in ("rope_theta", "rope_scaling")}
    | {
        "dtype": "bfloat16",
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_parameters": llama3(4.0) | {"rope_theta": 10000.0},
    },
}


class Weights:
    """Random tensors under their published names."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.random = random.Random(seed)
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}

    def matrix(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        deviation = gain / math.sqrt(columns)
        values = [self.random.gauss(0.0, deviation) for _ in range(rows * columns)]
        self.tensors[name] = Tensor(self.dtype, (rows, columns), values)

    def norm(self, name: str, size: int) -> None:
        values = [1.0 + self.random.gauss(0.0, 0.2) for _ in range(size)]
        self.tensors[name] = Tensor(self.dtype, (size,), values)

    def bias(self, name: str, size: int) -> None:
        # Large enough to change what is selected; fp32 in every published checkpoint.
        values = [self.random.gauss(0.0, 0.1) for _ in range(size)]
        self.tensors[name] = Tensor("F32", (size,), values)

    def mlp(self, prefix: str, hidden: int, intermediate: int) -> None:
        self.matrix(prefix + "gate_proj.weight", intermediate, hidden, 1.5)
        self.matrix(prefix + "up_proj.weight", intermediate, hidden)
        self.matrix(prefix + "down_proj.weight", hidden, intermediate)


def add_latent_attention(weights: Weights, prefix: str, c: Config) -> None:
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    qk_dim = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
    # Queries are large, so that attention is peaked and a wrong scale or angle shows.
    if c["q_lora_rank"] is None:
        weights.matrix(prefix + "q_proj.weight", heads * qk_dim, hidden, 2.0)
    else:
        weights.matrix(prefix + "q_a_proj.weight", c["q_lora_rank"], hidden)
        weights.norm(prefix + "q_a_layernorm.weight", c["q_lora_rank"])
        weights.matrix(prefix + "q_b_proj.weight", heads * qk_dim, c["q_lora_rank"], 2.0)
    latent = c["kv_lora_rank"]
    weights.matrix(prefix + "kv_a_proj_with_mqa.weight", latent + c["qk_rope_head_dim"], hidden)
    weights.norm(prefix + "kv_a_layernorm.weight", latent)
    rows = heads * (c["qk_nope_head_dim"] + c["v_head_dim"])
    weights.matrix(prefix + "kv_b_proj.weight", rows, latent)
    weights.matrix(prefix + "o_proj.weight", hidden, heads * c["v_head_dim"])


def add_grouped_attention(weights: Weights, prefix: str, c: Config) -> None:
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    head_dim = c.get("head_dim", hidden // heads)
    kv_rows = c["num_key_value_heads"] * head_dim
    weights.matrix(prefix + "q_proj.weight", heads * head_dim, hidden, 2.0)
    weights.matrix(prefix + "k_proj.weight", kv_rows, hidden)
    weights.matrix(prefix + "v_proj.weight", kv_rows, hidden)
    weights.matrix(prefix + "o_proj.weight", hidden, heads * head_dim)


def add_moe(weights: Weights, prefix: str, c: Config) -> None:
    hidden, intermediate = c["hidden_size"], c["moe_intermediate_size"]
    weights.matrix(prefix + "gate.weight", c["n_routed_experts"], hidden, 2.0)
    if c["topk_method"] == "noaux_tc":
        weights.bias(prefix + "gate.e_score_correction_bias", c["n_routed_experts"])
    for expert in range(c["n_routed_experts"]):
        weights.mlp(f"{prefix}experts.{expert}.", hidden, intermediate)
    weights.mlp(prefix + "shared_experts.", hidden, c["n_shared_experts"] * intermediate)


def make_weights(name: str, c: Config) -> dict[str, Tensor]:
    dtype = {"float32": "F32", "bfloat16": "BF16"}[c.get("dtype") or c["torch_dtype"]]
    weights = Weights(zlib.crc32(name.encode()), dtype)
    hidden = c["hidden_size"]
    weights.matrix("model.embed_tokens.weight", c["vocab_size"], hidden, math.sqrt(hidden))
    for layer in range(c["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        weights.norm(prefix + "input_layernorm.weight", hidden)
        if "kv_lora_rank" in c:
            add_latent_attention(weights, prefix + "self_attn.", c)
        else:
            add_grouped_attention(weights, prefix + "self_attn.", c)
        weights.norm(prefix + "post_attention_layernorm.weight", hidden)
        if layer < c.get("first_k_dense_replace", c["num_hidden_layers"]):
            weights.mlp(prefix + "mlp.", hidden, c["intermediate_size"])
        else:
            add_moe(weights, prefix + "mlp.", c)
    weights.norm("model.norm.weight", hidden)
    if not c["tie_word_embeddings"]:
        weights.matrix("lm_head.weight", c["vocab_size"], hidden, 2.0)
    return weights.tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="receives one folder a checkpoint")
    directory = parser.parse_args().directory
    for name, config in CHECKPOINTS.items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        generation = {"bos_token_id": 0, "eos_token_id": 1, "do_sample": False}
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
        write_safetensors(
            folder / "model.safetensors", make_weights(name, config), {"format": "pt"}
        )


if __name__ == "__main__":
    main()
