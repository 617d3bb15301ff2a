#!/usr/bin/env python3
"""Writes a checkpoint of a config's shape, to measure how fast it is loaded.

    tools/gpu/random_checkpoint.py CONFIG DIR

DIR gets config.json and one model.safetensors in bf16. Norms are one; matrices repeat one block of random values, so
text means nothing and logits are finite.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BLOCK = 64 << 20


def tensors(config: dict) -> list[tuple[str, list[int]]]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    nope, rope, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    latent, q_lora = config["kv_lora_rank"], config.get("q_lora_rank")
    table = [("model.embed_tokens.weight", [config["vocab_size"], hidden])]

    def mlp(prefix: str, inner: int) -> None:
        table.append((prefix + "gate_proj.weight", [inner, hidden]))
        table.append((prefix + "up_proj.weight", [inner, hidden]))
        table.append((prefix + "down_proj.weight", [hidden, inner]))

    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        attention = prefix + "self_attn."
        table.append((prefix + "input_layernorm.weight", [hidden]))
        table.append((prefix + "post_attention_layernorm.weight", [hidden]))
        if q_lora:
            table.append((attention + "q_a_proj.weight", [q_lora, hidden]))
            table.append((attention + "q_a_layernorm.weight", [q_lora]))
            table.append((attention + "q_b_proj.weight", [heads * (nope + rope), q_lora]))
        else:
            table.append((attention + "q_proj.weight", [heads * (nope + rope), hidden]))
        table.append((attention + "kv_a_proj_with_mqa.weight", [latent + rope, hidden]))
        table.append((attention + "kv_a_layernorm.weight", [latent]))
        table.append((attention + "kv_b_proj.weight", [heads * (nope + value), latent]))
        table.append((attention + "o_proj.weight", [hidden, heads * value]))
        if not config.get("n_routed_experts") or layer < config["first_k_dense_replace"]:
            mlp(prefix + "mlp.", config["intermediate_size"])
            continue
        inner = config["moe_intermediate_size"]
        table.append((prefix + "mlp.gate.weight", [config["n_routed_experts"], hidden]))
        if config.get("topk_method") == "noaux_tc":
            table.append((prefix + "mlp.gate.e_score_correction_bias", [config["n_routed_experts"]]))
        for expert in range(config["n_routed_experts"]):
            mlp(f"{prefix}mlp.experts.{expert}.", inner)
        if config.get("n_shared_experts"):
            mlp(prefix + "mlp.shared_experts.", config["n_shared_experts"] * inner)
    table.append(("model.norm.weight", [hidden]))
    if not config.get("tie_word_embeddings"):
        table.append(("lm_head.weight", [config["vocab_size"], hidden]))
    return table


def random_block() -> bytes:
    """bf16 values of either sign between 2^-7 and 2^-5: the low byte and the sign are random."""
    source, block = random.Random(0), bytearray(BLOCK)
    block[0::2] = source.randbytes(BLOCK // 2)
    block[1::2] = source.randbytes(BLOCK // 2).translate(bytes(0x3C if i % 2 else 0xBC for i in range(256)))
    return bytes(block)


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    config = json.loads(source.read_text())
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target / "config.json")
    header: dict[str, dict] = {}
    pieces: list[tuple[int, int, bool]] = []  # offset, bytes, of a norm
    end = 0
    for name, shape in tensors(config):
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        for first in range(0, size, BLOCK):
            pieces.append((end + first, min(BLOCK, size - first), len(shape) == 1))
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 256 + 248)  # the data then begins at a multiple of 256
    block, ones = random_block(), b"\x80\x3f" * (BLOCK // 2)
    with open(target / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + end)
        base = 8 + len(text)

        def write(piece: tuple[int, int, bool]) -> None:
            offset, size, is_norm = piece
            os.pwrite(file.fileno(), memoryview(ones if is_norm else block)[:size], base + offset)

        file.flush()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write, pieces))
    print(f"{target}: {end} bytes in {len(header)} tensors")


if __name__ == "__main__":
    main()
