"""A batched sampler for a Llama-architecture teacher stored as GGUF (SmolLM2-135M-Instruct).

All sequences of the batch advance together, one token a step, and a finished one is replaced by the next prompt inside
the step itself, so a step is one CUDA graph and the host only watches a clock. Prompt tokens are forced through the same
step. The keys and values of the system prompt, which all prompts share, are computed once.

Shapes: B slots, H query heads, G key/value heads, D head size, L context, N prompts.
"""

from __future__ import annotations

import math
import time
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
    tok.add_special_tokens([AddedToken(t, special=True) for t, k in zip(tokens, kinds) if k == 3])
    return tok


def plain_tokens(tok: Tokenizer) -> np.ndarray:
    """1 for the tokens a story may contain: printable ASCII, spaces, newlines, and the end of the turn."""
    size = tok.get_vocab_size()
    allowed = np.zeros(size, dtype=np.int8)
    byte_alphabet = {c for c in map(chr, range(33, 127)) if c not in "#*_`<>[]{}|\\~^@=+/$%&"} | {"Ġ", "Ċ"}
    for i in range(17, size):
        allowed[i] = all(c in byte_alphabet for c in tok.id_to_token(i))
    allowed[tok.token_to_id(END)] = 1
    return allowed


class Teacher:
    """Weights in `dtype` on `device`, read from a GGUF file (or random when reader is None)."""

    def __init__(self, reader, device: str, dtype: torch.dtype):
        self.device, self.dtype = device, dtype
        if reader is None:
            self.layers, self.hidden, self.H, self.G, self.ffn, self.vocab = 30, 576, 9, 3, 1536, 49152
            self.base, self.eps = 100000.0, 1e-5
            get = self._random
        else:
            field = lambda key: reader.fields["llama." + key].contents()
            self.layers, self.hidden = field("block_count"), field("embedding_length")
            self.H, self.G = field("attention.head_count"), field("attention.head_count_kv")
            self.ffn, self.vocab = field("feed_forward_length"), field("vocab_size")
            self.base, self.eps = field("rope.freq_base"), field("attention.layer_norm_rms_epsilon")
            tensors = {t.name: t for t in reader.tensors}
            get = lambda name, *shape: self._dequantize(tensors[name], shape)
        self.D = self.hidden // self.H
        h, kv = self.hidden, self.G * self.D
        self.embed = get("token_embd.weight", self.vocab, h)
        self.out_norm = get("output_norm.weight", h)
        self.blocks = []
        for i in range(self.layers):
            p = f"blk.{i}."
            qkv = [get(p + f"attn_{n}.weight", r, h) for n, r in (("q", h), ("k", kv), ("v", kv))]
            gate_up = [get(p + f"ffn_{n}.weight", self.ffn, h) for n in ("gate", "up")]
            self.blocks.append(
                dict(
                    attn_norm=get(p + "attn_norm.weight", h),
                    qkv=torch.cat(qkv),  # [(H + 2 G) D, hidden]
                    out=get(p + "attn_output.weight", h, h),
                    ffn_norm=get(p + "ffn_norm.weight", h),
                    gate_up=torch.cat(gate_up),  # [2 ffn, hidden]
                    down=get(p + "ffn_down.weight", h, self.ffn),
                )
            )
        freq = self.base ** (-torch.arange(0, self.D, 2, dtype=torch.float64) / self.D)
        self.freq = freq.to(torch.float32).to(device)  # [D / 2]

    def _random(self, name: str, *shape: int) -> torch.Tensor:
        w = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02
        return w.to(self.device, self.dtype)

    def _dequantize(self, tensor, shape) -> torch.Tensor:
        from gguf.quants import dequantize

        w = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        assert tuple(w.shape) == shape, (tensor.name, w.shape, shape)
        return w.to(self.device, self.dtype)


class Batch:
    """B slots that advance together through N prompts; slot s answers after shared prefix s mod K.

    text  [N, L] int32: the tokens after the prefix; prompts are written in, answers are filled in.
    plen  [N] forced tokens a row; length [N] tokens when finished (0: not finished).
    score [N] fp32: sum of the answer's log-probabilities, at temperature 1.
    """

    def __init__(
        self,
        teacher: Teacher,
        prefixes: list[list[int]],
        text,
        plen,
        allowed,
        slots: int,
        end: int,
        temperature: float,
        min_p: float,
        seed: int,
    ):
        t, dev = teacher, teacher.device
        self.teacher, self.slots, self.end = t, slots, end
        self.ops = kernels if kernels is not None and dev != "cpu" else CpuOps
        self.temperature, self.log_min_p = temperature, math.log(min_p)
        self.text, self.plen = text.to(dev), plen.to(dev)
        self.N, self.L = text.shape
        self.allowed = torch.from_numpy(allowed).to(dev)
        self.length = torch.zeros(self.N, dtype=torch.int32, device=dev)
        self.score = torch.zeros(self.N, dtype=torch.float32, device=dev)
        cache = lambda b, n: torch.zeros(t.layers, 2, b, t.G, n, t.D, dtype=t.dtype, device=dev)
        count, longest = len(prefixes), max(map(len, prefixes))
        self.prefix = cache(count, longest)  # keys and values of the K prefixes
        nothing, none = cache(1, 0), torch.zeros(count, dtype=torch.int64, device=dev)
        for p in range(longest):
            token = torch.tensor([ids[min(p, len(ids) - 1)] for ids in prefixes], device=dev)
            self.hidden_states(token, none + p, self.prefix, nothing, none)
        self.cache = cache(slots, self.L)
        self.plain = torch.tensor([len(prefixes[s % count]) for s in range(slots)], device=dev)  # prefix length a slot
        self.pos = torch.zeros(slots, dtype=torch.int64, device=dev)  # within `text`
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
        logits = F.linear(hidden, self.teacher.embed)  # [B, vocab]
        sampled, logp = self.ops.sample(logits, self.allowed, self.seed, self.temperature, self.log_min_p)
        self.seed += 1
        at = self.pos + 1  # where the next token goes in `text`
        forced = at < self.plen[self.row]
        token = torch.where(forced, self.text[self.row, at].to(torch.int64), sampled)
        self.text[self.row, at] = token.to(torch.int32)
        self.score[self.row] += torch.where(forced, 0.0, logp)
        ended = (token == self.end) & ~forced
        done = ended | (at == self.L - 1)
        self.length[self.row] = torch.where(ended, at + 1, 0).to(torch.int32)
        fresh = torch.clamp(self.next_row + torch.cumsum(done.to(torch.int64), 0) - 1, max=self.N - 1)
        self.next_row += done.sum()
        self.row.copy_(torch.where(done, fresh, self.row))
        self.pos.copy_(torch.where(done, 0, at))
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
        """Tokens [B] and their log-probabilities [B] at temperature 1."""
        x = logits.float() / temperature
        x = x.masked_fill(allowed == 0, -torch.inf)
        x = x.masked_fill(x < x.amax(-1, keepdim=True) + log_min_p, -torch.inf)
        generator = torch.Generator(device=x.device).manual_seed(int(seed))
        noise = torch.rand(x.shape, generator=generator, device=x.device)
        token = (x - torch.log(-torch.log(noise.clamp(1e-9, 1 - 1e-7)))).argmax(-1)
        return token, logits.float().log_softmax(-1).gather(-1, token[:, None])[:, 0]
