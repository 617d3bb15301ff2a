"""A batched sampler for a Llama-architecture teacher stored as GGUF (SmolLM2-135M-Instruct).

What is wanted is a script: tokens that are forced, such as a prompt or the sentences of a plot, and marks where the teacher
writes one sentence. All sequences of the batch advance together, one token a step, and a finished one is replaced by the
next script inside the step itself, so a step is one CUDA graph and the host only watches a clock. The keys and values of
the prefixes, which all scripts share, are computed once.

Shapes: B slots, H query heads, G key/value heads, D head size, L context, N scripts, S their longest, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

try:
    import teacher_kernels as kernels
except ImportError:  # no Triton: the CPU path below serves for checking prompts
    kernels = None

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
END = "<|im_end|>"
SENTENCE = -1  # a mark in a script: the teacher writes one here


def open_gguf(path: Path):
    from gguf import GGUFReader

    return GGUFReader(str(path))


def load_tokenizer(reader) -> Tokenizer:
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True) for t, k in zip(tokens, kinds, strict=True) if k == 3])
    return tok


def sentence_tokens(tok: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """(allowed [V] int8, closing [V] bool): what may stand in a sentence of narration, and what ends one.

    Printable ASCII and spaces; no quotation, digit or new line, no abbreviation whose full stop would seem to end it.
    """
    size = tok.get_vocab_size()
    allowed, closing = np.zeros(size, dtype=np.int8), np.zeros(size, dtype=bool)
    alphabet = {c for c in map(chr, range(33, 127)) if c not in '#*_`<>[]{}|\\~^@=+/$%&"():;0123456789'} | {"Ġ"}
    abbreviations = {"Mr", "Mrs", "Ms", "Dr", "St", "etc"}
    for i in range(17, size):
        token = tok.id_to_token(i)
        closing[i] = token[-1] in ".!?"
        allowed[i] = set(token) <= alphabet and ".." not in token and token.strip("Ġ") not in abbreviations
    return allowed, closing


@dataclass(frozen=True)
class Geometry:
    layers: int
    hidden: int
    heads: int
    groups: int
    ffn: int
    vocab: int
    rope_base: float
    epsilon: float


class Teacher:
    """Weights in `dtype` on `device`; `get` gives the GGUF tensor of a name, checked against its shape."""

    def __init__(self, geometry: Geometry, get: Callable[..., torch.Tensor], device: str, dtype: torch.dtype):
        g = geometry
        self.device, self.dtype = device, dtype
        self.layers, self.hidden, self.H, self.G = g.layers, g.hidden, g.heads, g.groups
        self.D, self.eps = g.hidden // g.heads, g.epsilon
        h, kv = g.hidden, g.groups * self.D

        def weight(name: str, *shape: int) -> torch.Tensor:
            w = get(name + ".weight")
            assert tuple(w.shape) == shape, (name, w.shape, shape)
            return w.to(device, dtype)

        self.embed = weight("token_embd", g.vocab, h)
        self.out_norm = weight("output_norm", h)
        self.blocks = []
        for i in range(g.layers):
            p = f"blk.{i}."
            qkv = [weight(f"{p}attn_{n}", rows, h) for n, rows in (("q", h), ("k", kv), ("v", kv))]
            gate_up = [weight(f"{p}ffn_{n}", g.ffn, h) for n in ("gate", "up")]
            self.blocks.append(
                dict(
                    attn_norm=weight(p + "attn_norm", h),
                    qkv=torch.cat(qkv),  # [(H + 2 G) D, hidden]
                    out=weight(p + "attn_output", h, h),
                    ffn_norm=weight(p + "ffn_norm", h),
                    gate_up=torch.cat(gate_up),  # [2 ffn, hidden]
                    down=weight(p + "ffn_down", h, g.ffn),
                )
            )
        freq = g.rope_base ** (-torch.arange(0, self.D, 2, dtype=torch.float64) / self.D)
        self.freq = freq.to(torch.float32).to(device)  # [D / 2]

    @classmethod
    def from_gguf(cls, reader, device: str, dtype: torch.dtype) -> Teacher:
        from gguf.quants import dequantize

        field = lambda key: reader.fields["llama." + key].contents()
        geometry = Geometry(
            layers=field("block_count"),
            hidden=field("embedding_length"),
            heads=field("attention.head_count"),
            groups=field("attention.head_count_kv"),
            ffn=field("feed_forward_length"),
            vocab=field("vocab_size"),
            rope_base=field("rope.freq_base"),
            epsilon=field("attention.layer_norm_rms_epsilon"),
        )
        tensors = {t.name: t for t in reader.tensors}

        def get(name: str) -> torch.Tensor:
            tensor = tensors[name]
            return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))

        return cls(geometry, get, device, dtype)


class Batch:
    """B slots that advance together through N scripts; slot s answers after shared prefix s mod K.

    script  [N, S] int32: forced tokens and SENTENCE marks. The first is forced; END follows the last and ends the script.
            Only an END at or after plen counts, so prompts may hold some.
    text    [N, L] int32: what came of the scripts. length [N]: its tokens, END included (0: not finished, or too long). A
            sentence without an end is cut after `sentence_budget` tokens.
    written [N] int32 tokens by the teacher, score [N] fp32: the sum of their log-probabilities at temperature 1.
    """

    def __init__(
        self,
        teacher: Teacher,
        prefixes: list[list[int]],
        script: torch.Tensor,
        plen: torch.Tensor,
        allowed: np.ndarray,
        closing: np.ndarray,
        slots: int,
        length: int,
        sentence_budget: int,
        end: int,
        temperature: float,
        min_p: float,
        seed: int,
    ):
        t, dev = teacher, teacher.device
        assert script.shape[0] >= slots, "fewer scripts than slots"
        self.teacher, self.slots, self.end, self.budget = t, slots, end, sentence_budget
        self.ops = kernels if kernels is not None and dev != "cpu" else CpuOps
        self.temperature, self.log_min_p = temperature, math.log(min_p)
        self.script, self.plen = script.to(dev), plen.to(dev)
        self.N, self.L = len(script), length
        self.allowed, self.closing = torch.from_numpy(allowed).to(dev), torch.from_numpy(closing).to(dev)
        self.text = torch.zeros(self.N, length, dtype=torch.int32, device=dev)
        self.text[:, 0] = self.script[:, 0]
        self.length = torch.zeros(self.N, dtype=torch.int32, device=dev)
        self.written = torch.zeros(self.N, dtype=torch.int32, device=dev)
        self.score = torch.zeros(self.N, dtype=torch.float32, device=dev)
        cache = lambda b, n: torch.zeros(t.layers, 2, b, t.G, n, t.D, dtype=t.dtype, device=dev)
        count, longest = len(prefixes), max(map(len, prefixes))
        self.prefix = cache(count, longest)  # keys and values of the K prefixes
        nothing, none = cache(1, 0), torch.zeros(count, dtype=torch.int64, device=dev)
        for p in range(longest):
            token = torch.tensor([ids[min(p, len(ids) - 1)] for ids in prefixes], device=dev)
            self.hidden_states(token, none + p, self.prefix, nothing, none)
        self.cache = cache(slots, self.L)
        zeros = lambda: torch.zeros(slots, dtype=torch.int64, device=dev)
        self.plain = torch.tensor([len(prefixes[s % count]) for s in range(slots)], device=dev)  # prefix length a slot
        self.pos = zeros()  # within `text`, of the token to compute
        self.at = zeros() + 1  # within `script`, of what comes next
        self.run_length = zeros()  # tokens of the sentence being written
        self.row = torch.arange(slots, dtype=torch.int64, device=dev)
        self.next_row = torch.full((1,), slots, dtype=torch.int64, device=dev)
        self.token = self.text[self.row, 0].to(torch.int64)
        self.seed = torch.full((1,), seed, dtype=torch.int64, device=dev)

    def hidden_states(self, token, pos, cache, prefix, plen) -> torch.Tensor:
        """Runs `token` at `pos` after a prefix of `plen` through the layers, writing `cache`. Returns [B, hidden]."""
        t, ops = self.teacher, self.ops
        residual = t.embed[token]
        x = ops.rms_norm(residual, t.blocks[0]["attn_norm"], t.eps)
        for i, w in enumerate(t.blocks):
            o = ops.attention(F.linear(x, w["qkv"]), cache[i], prefix[i], pos, plen, t.freq)
            residual, x = ops.add_rms_norm(residual, F.linear(o, w["out"]), w["ffn_norm"], t.eps)
            y = F.linear(ops.silu_mul(F.linear(x, w["gate_up"])), w["down"])
            norm = t.blocks[i + 1]["attn_norm"] if i + 1 < t.layers else t.out_norm
            residual, x = ops.add_rms_norm(residual, y, norm, t.eps)
        return x

    def step(self) -> None:
        hidden = self.hidden_states(self.token, self.pos, self.cache, self.prefix, self.plain)
        logits = F.linear(hidden, self.teacher.embed)  # [B, V]
        wanted = self.script[self.row, self.at].to(torch.int64)
        free = wanted == SENTENCE
        sampled, logp = self.ops.sample(logits, self.allowed, self.seed, self.temperature, self.log_min_p)
        self.seed += 1
        token = torch.where(free, sampled, wanted)
        pos = self.pos + 1
        self.text[self.row, pos] = token.to(torch.int32)
        self.score[self.row] += torch.where(free, logp, 0.0)
        self.written[self.row] += free.to(torch.int32)
        closed = free & (self.closing[token] | (self.run_length + 1 >= self.budget))
        run_length = torch.where(free & ~closed, self.run_length + 1, 0)
        at = self.at + (~free | closed).to(torch.int64)
        ended = (token == self.end) & (pos >= self.plen[self.row])
        done = ended | (pos == self.L - 1)
        self.length[self.row] = torch.where(ended, pos + 1, 0).to(torch.int32)
        fresh = torch.clamp(self.next_row + torch.cumsum(done.to(torch.int64), 0) - 1, max=self.N - 1)
        self.next_row += done.sum()
        self.row.copy_(torch.where(done, fresh, self.row))
        self.pos.copy_(torch.where(done, 0, pos))
        self.at.copy_(torch.where(done, 1, at))
        self.run_length.copy_(torch.where(done, 0, run_length))
        self.token.copy_(torch.where(done, self.text[self.row, 0].to(torch.int64), token))

    def run(self, seconds: float, log=print) -> float:
        """Advances until the time is over or the prompts are used up; returns seconds a step."""
        cuda = self.teacher.device != "cpu"
        step = self.step
        if cuda:
            for _ in range(3):
                self.step()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.step()
            step = graph.replay
        start = last = time.monotonic()
        steps = 0
        while time.monotonic() - start < seconds:
            for _ in range(50 if cuda else 1):
                step()
            steps += 50 if cuda else 1
            started = int(self.next_row)
            if started >= self.N:
                break
            if time.monotonic() - last > 20:
                last = time.monotonic()
                log(
                    f"{last - start:6.0f} s  {steps} steps  {started} rows started  "
                    f"{steps * self.slots / (last - start):.0f} tokens/s",
                    flush=True,
                )
        return (time.monotonic() - start) / max(steps, 1)


class CpuOps:
    """The same operations in plain PyTorch: the check of the kernels, and the path without a GPU."""

    @staticmethod
    def rms_norm(x, weight, eps):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)

    @staticmethod
    def add_rms_norm(residual, y, weight, eps):
        s = residual + y
        return s, CpuOps.rms_norm(s, weight, eps)

    @staticmethod
    def silu_mul(x):
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate.float()).to(x.dtype) * up

    @staticmethod
    def rotate(x, pos, freq):  # [B, heads, D]: pairs (2 i, 2 i + 1), as GGUF stores Llama weights
        angle = pos[:, None].float() * freq
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        a, b = x.float()[..., 0::2], x.float()[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)

    @staticmethod
    def attention(qkv, cache, prefix, pos, plen, freq):
        """qkv [B, (H + 2 G) D]; cache [2, B, G, L, D]; prefix [2, K, G, P, D]; slot s sees prefix s mod K up to plen."""
        _, b, g, context, d = cache.shape
        heads = qkv.view(b, -1, d)
        h = heads.shape[1] - 2 * g
        slots = torch.arange(b, device=qkv.device)
        q = CpuOps.rotate(heads[:, :h], plen + pos, freq)
        cache[0, slots, :, pos] = CpuOps.rotate(heads[:, h : h + g], plen + pos, freq)
        cache[1, slots, :, pos] = heads[:, h + g :]
        k, v = torch.cat((prefix[:, slots % prefix.shape[1]], cache), 3)
        before = torch.arange(prefix.shape[3], device=qkv.device)[None] < plen[:, None]
        own = torch.arange(context, device=qkv.device)[None] <= pos[:, None]
        mask = torch.cat((before, own), 1)[:, None, None]
        o = F.scaled_dot_product_attention(q.view(b, g, h // g, d), k, v, attn_mask=mask)
        return o.reshape(b, h * d)

    @staticmethod
    def sample(logits, allowed, seed, temperature, log_min_p):
        """Tokens [B], allowed ones, and their log-probabilities [B] at temperature 1."""
        x = logits.float() / temperature
        x = x.masked_fill(allowed == 0, -torch.inf)
        x = x.masked_fill(x < x.amax(-1, keepdim=True) + log_min_p, -torch.inf)
        generator = torch.Generator(device=x.device).manual_seed(int(seed))
        noise = torch.rand(x.shape, generator=generator, device=x.device)
        token = (x - torch.log(-torch.log(noise.clamp(1e-9, 1 - 1e-7)))).argmax(-1)
        return token, logits.float().log_softmax(-1).gather(-1, token[:, None])[:, 0]
