"""Writes a trained model as a published checkpoint, and reads one back."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from config import Config
from documents import BEGIN, CHAT_TEMPLATE, END
from model import CausalLM
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

MAX_BYTES = 15 * 2**20  # of model.safetensors: it is committed


def export(model: CausalLM, tok: Tokenizer, out: Path) -> int:
    """config.json, generation_config.json, tokenizer.json, tokenizer_config.json, model.safetensors; returns its bytes.

    bf16, but the correction biases in fp32 as in DeepSeek-V3. Embedding and head are one tensor, the drafting layer's too.
    """
    out.mkdir(parents=True, exist_ok=True)
    bos, eos = tok.token_to_id(BEGIN), tok.token_to_id(END)
    write = lambda name, value: (out / name).write_text(json.dumps(value, indent=2) + "\n")
    write("config.json", model.c.published(bos, eos))
    write(
        "generation_config.json",
        {"bos_token_id": bos, "eos_token_id": eos, "do_sample": True, "temperature": 0.8, "top_p": 0.95},
    )
    write(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": "<|pad|>",
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.c.max_position_embeddings,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    tok.save(str(out / "tokenizer.json"))
    tensors = {
        name: (t if name.endswith("e_score_correction_bias") else t.to(torch.bfloat16)).cpu().contiguous()
        for name, t in model.state_dict().items()
    }
    path = out / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    size = path.stat().st_size
    assert size <= MAX_BYTES, f"{size} bytes are more than {MAX_BYTES}"
    return size


def load(folder: Path) -> CausalLM:
    """In fp32, on the CPU."""
    model = CausalLM(Config.read(folder / "config.json"))
    model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return model
