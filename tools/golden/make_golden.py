#!/usr/bin/env python3
"""Computes golden logits and greedy continuations of tiny checkpoints with transformers.

    tools/golden/make_golden.py tests/data/tiny/*

Writes golden.safetensors beside each checkpoint:

    prompt.{short,long}   [n] I32         short: below one page and chunk; long: above both
    logits.{short,long}   [n, vocab] F32  at every position of the prompt
    greedy.{short,long}   [64] I32        the continuation, ignoring end-of-text
    gap.{short,long}      [64] F32        best minus second-best logit where each token was chosen

All in fp32 on the CPU with eager attention, bf16 weights widened. The continuation is computed
without a cache. Needs torch and transformers (made with torch 2.11 and transformers 5.17).
"""

import argparse
import json
import math
import random
import zlib
from pathlib import Path

import torch
import transformers

from tensor_file import Tensor, write_safetensors

PROMPT_LENGTHS = {"short": 23, "long": 133}
NUM_GREEDY = 64


def reference_scaling(config: dict) -> tuple[float, float]:
    """Softmax scale and magnitude of cos and sin, as the published modelling code computes them."""
    if "kv_lora_rank" in config:
        head_dim = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    else:
        share = config["hidden_size"] // config["num_attention_heads"]
        head_dim = config.get("head_dim", share)
    scaling = head_dim**-0.5
    rope = config.get("rope_scaling")
    if rope is None or rope.get("type") != "yarn":
        return scaling, 1.0

    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(rope["factor"]) + 1.0

    magnitude = mscale(rope["mscale"]) / mscale(rope["mscale_all_dim"])
    return scaling * mscale(rope["mscale_all_dim"]) ** 2, magnitude


def load(folder: Path) -> torch.nn.Module:
    config = json.loads((folder / "config.json").read_text())
    experts = {"experts_implementation": "eager"} if "n_routed_experts" in config else {}
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        **experts,
    )
    problems = {key: value for key, value in info.items() if value}
    if problems:
        raise RuntimeError(f"{folder}: weights do not match the model: {problems}")
    # Versions of transformers have differed in yarn's factors: a golden made with wrong ones is
    # worse than none.
    scaling, magnitude = reference_scaling(config)
    for layer in model.model.layers:
        if not math.isclose(layer.self_attn.scaling, scaling, rel_tol=1e-9):
            raise RuntimeError(f"{folder}: softmax scale {layer.self_attn.scaling}, not {scaling}")
    if not math.isclose(model.model.rotary_emb.attention_scaling, magnitude, rel_tol=1e-9):
        raise RuntimeError(f"{folder}: rope magnitude is not {magnitude}")
    return model.eval()


def logits_of(model: torch.nn.Module, tokens: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


def make_golden(folder: Path) -> None:
    model = load(folder)
    vocab = model.config.vocab_size
    generator = random.Random(zlib.crc32(folder.name.encode()) + 1)
    tensors: dict[str, Tensor] = {}
    for name, length in PROMPT_LENGTHS.items():
        prompt = [generator.randrange(vocab) for _ in range(length)]
        logits = logits_of(model, prompt)
        tokens = list(prompt)
        gaps = []
        last = logits[-1]
        for _ in range(NUM_GREEDY):
            best = torch.topk(last, 2).values
            gaps.append(float(best[0] - best[1]))
            tokens.append(int(torch.argmax(last)))
            last = logits_of(model, tokens)[-1]
        tensors[f"prompt.{name}"] = Tensor("I32", (length,), prompt)
        tensors[f"logits.{name}"] = Tensor("F32", (length, vocab), logits.flatten().tolist())
        tensors[f"greedy.{name}"] = Tensor("I32", (NUM_GREEDY,), tokens[length:])
        tensors[f"gap.{name}"] = Tensor("F32", (NUM_GREEDY,), gaps)
        print(
            f"{folder.name} {name}: max |logit| {float(logits.abs().max()):.3f}, "
            f"smallest gap {min(gaps):.2e}, {len(set(tokens[length:]))} distinct tokens"
        )
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    write_safetensors(folder / "golden.safetensors", tensors, versions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="checkpoint folders")
    folders = parser.parse_args().folders
    torch.manual_seed(0)
    torch.set_num_threads(4)
    torch.set_grad_enabled(False)
    for folder in folders:
        make_golden(folder)


if __name__ == "__main__":
    main()
