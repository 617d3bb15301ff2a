"""Checks an exported model against transformers and writes what tests hold the engine to.

    python golden.py --model latent-mini --data tests/data/latent-mini

Everything is computed in fp32 from the bf16 weights by DeepseekV3ForCausalLM, with model.py beside it as a check.

golden.json  token ids, a greedy continuation of each prompt with the gap between the two best logits at every step, all
             logits of one short prompt, and what the drafting layer proposes along the first continuation (model.py).
greedy.json  twenty greedy samples, text and ids, to the end of each story.
loglikelihoods.json  the requests of an lm-eval task that it holds already, scored again.

Prints the mean loss on held-out.jsonl, for the model card.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from checkpoint import load
from continuations import continuations
from documents import END
from model import CausalLM
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

PROMPTS = [
    "Once upon a time",
    "One day, a small fox named Pip found a golden key.",
    "<|user|>Write a short story about a shy girl named Anna and a bear named Bruno.<|assistant|>",
    '"I am not afraid of the dark," said the little owl.\n\nThe moon was round and white. ' * 8,
]
GREEDY = [
    "Once upon a time",
    "Once upon a time, there was a brave mouse named Button.",
    "Once upon a time, on a small island, there lived a shy girl named Clara.",
    "One day, a small fox named Pip found",
    "In a green valley, there lived a",
    "Long ago, near an old bridge, there was a",
    "Far away, by the sea, lived Bella, a curious otter.",
    "Every morning, a quiet boy named Theo",
    "It was a windy day. Daisy, a busy hen,",
    "The sun was shining on a farm.",
    "There once was a proud goose named Ginger.",
    "Lily was a clever girl who lived at the edge of the woods.",
    *(
        f"<|user|>{request}<|assistant|>"
        for request in (
            "Tell me a story.",
            "Write a short story about a shy girl named Anna and a bear named Bruno.",
            "Tell me a story about a brave boy named Leo who is afraid of the dark.",
            "Please tell a story about a hungry goat named Clover.",
            "Write a short story for young children about a small bear named Spot who bakes a cake.",
            "Can you tell me a story about a lonely wolf named Luna?",
            "Tell me a bedtime story by the sea.",
            "I want to hear a story about a fox and a rabbit.",
        )
    ),
]
MAX_TOKENS = 400


@torch.no_grad()
def mean_loss(model, tok: Tokenizer, path: Path) -> tuple[float, int]:
    """Nats a token over the documents of held-out.jsonl, each alone, the first token given; and the tokens."""
    total, count = 0.0, 0
    for line in path.read_text().splitlines():
        ids = torch.tensor([tok.encode(json.loads(line)["text"], add_special_tokens=False).ids])
        total += float(F.cross_entropy(model(ids[:, :-1]).logits[0].double(), ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total / count, count


@torch.no_grad()
def score_again(model, tok: Tokenizer, path: Path) -> None:
    """Replaces each request's loglikelihood of its continuation, and whether every token of it was the likeliest."""
    value = json.loads(path.read_text())
    encode = lambda text: tok.encode(text, add_special_tokens=False).ids
    for request in value["requests"]:
        ids = encode(request["context"] + request["continuation"])
        first = len(encode(request["context"])) - 1
        logp = model(torch.tensor([ids[:-1]])).logits[0, first:].double().log_softmax(-1)
        said = torch.tensor(ids[first + 1 :])
        request["loglikelihood"] = round(float(logp.gather(-1, said[:, None]).sum()), 5)
        request["greedy"] = bool((logp.argmax(-1) == said).all())
    lines = ",\n".join("  " + json.dumps(request) for request in value["requests"])
    path.write_text('{"about": ' + json.dumps(value["about"]) + ',\n "requests": [\n' + lines + "\n]}\n")


@torch.no_grad()
def drafted(model: CausalLM, tokens: list[int]) -> list[int]:
    """For each token but the first: what the drafting layer, fed with it, proposes as the token after it."""
    ids = torch.tensor([tokens])
    return model(ids[:, :-1], ids[:, 1:]).draft[0].argmax(-1).tolist()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="holds held-out.jsonl; the others are written there")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    tok = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    end = tok.token_to_id(END)
    theirs = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager")
    ours = load(args.model)
    print(type(theirs).__name__)
    cases = []
    for prompt in PROMPTS:
        ids = tok.encode(prompt).ids
        never = len(tok.get_vocab())  # these go on after the end of a story
        [said], [gaps] = continuations(theirs, [ids], 64, never, 0, do_sample=False)
        a = theirs(torch.tensor([ids + said])).logits[0]
        b = ours(torch.tensor([ids + said])).logits[0]
        error = float((a - b).abs().max() / a.abs().max())
        print(f"{len(ids)} tokens, model.py against transformers: {error:.2e}, smallest gap {min(gaps):.4f}")
        assert error < 1e-4
        cases.append({"prompt": prompt, "prompt_ids": ids, "greedy_ids": said, "top2_gaps": gaps})
    first = cases[0]
    logits = theirs(torch.tensor([first["prompt_ids"]])).logits[0]
    value = {
        "about": "fp32 results of transformers' DeepseekV3ForCausalLM from the bf16 weights; tools/train/golden.py",
        "cases": cases,
        "logits": {"ids": first["prompt_ids"], "values": [[round(x, 5) for x in row] for row in logits.tolist()]},
    }
    if ours.drafts:
        value["drafts"] = drafted(ours, first["prompt_ids"] + first["greedy_ids"])
    (args.data / "golden.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")

    prompts = [tok.encode(prompt).ids for prompt in GREEDY]
    said, gaps = continuations(theirs, prompts, MAX_TOKENS, end, 0, do_sample=False)
    texts = tok.decode_batch(said, skip_special_tokens=True)
    names = ("prompt", "prompt_ids", "greedy_ids", "top2_gaps", "text")
    samples = [dict(zip(names, sample, strict=True)) for sample in zip(GREEDY, prompts, said, gaps, texts, strict=True)]
    value = {"about": "as golden.json; each to its end", "max_tokens": MAX_TOKENS, "samples": samples}
    (args.data / "greedy.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")
    if (scored := args.data / "loglikelihoods.json").exists():
        score_again(theirs, tok, scored)
    loss, count = mean_loss(theirs, tok, args.data / "held-out.jsonl")
    print(f"held-out.jsonl: {loss:.5f} nats a token over {count} tokens")


if __name__ == "__main__":
    main()
