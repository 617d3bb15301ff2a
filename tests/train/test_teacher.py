"""The teacher's sampler on a small random teacher, and its kernels against the plain operations. Needs PyTorch and Triton."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch")
os.environ["TRITON_INTERPRET"] = "1"  # kernels run on the CPU; set before Triton is imported
pytest.importorskip("triton")

import generate  # noqa: E402
import numpy as np  # noqa: E402
import teacher as T  # noqa: E402
import teacher_kernels as kernels  # noqa: E402

GEOMETRY = T.Geometry(layers=2, hidden=64, heads=4, groups=2, ffn=96, vocab=50, rope_base=1e4, epsilon=1e-5)
END, FULL_STOP = 1, 2
# Triton 3.6's interpreter cannot loop to a loaded bound with later versions.
interpreted = pytest.mark.skipif(
    tuple(map(int, np.__version__.split(".")[:2])) >= (2, 4), reason="Triton's interpreter needs NumPy before 2.4"
)
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def random_teacher() -> T.Teacher:
    generator = torch.Generator().manual_seed(1)
    g = GEOMETRY
    kv = g.groups * g.hidden // g.heads
    rows = {"token_embd": g.vocab, "attn_k": kv, "attn_v": kv, "ffn_gate": g.ffn, "ffn_up": g.ffn}

    def get(name: str) -> torch.Tensor:
        part = name.split(".")[-2]
        if "norm" in part:
            return torch.ones(g.hidden)
        columns = g.ffn if part == "ffn_down" else g.hidden
        return torch.randn(rows.get(part, g.hidden), columns, generator=generator) * 0.3

    return T.Teacher(g, get, "cpu", torch.float32)


def run(
    scripts: list[list[int]], plen: list[int], slots: int, length: int, budget: int = 6, steps: int = 200, seed: int = 3
):
    allowed, closing = np.ones(50, dtype=np.int8), np.zeros(50, dtype=bool)
    allowed[:2] = 0
    closing[FULL_STOP] = True
    padded = torch.full((len(scripts), max(map(len, scripts)) + 1), END, dtype=torch.int32)
    for row, script in zip(padded, scripts, strict=True):
        row[: len(script)] = torch.tensor(script, dtype=torch.int32)
    batch = T.Batch(
        random_teacher(),
        [[5, 6], [7, 8, 9]],
        padded,
        torch.tensor(plen),
        allowed,
        closing,
        slots,
        length,
        budget,
        END,
        1.0,
        0.01,
        seed,
    )
    for _ in range(steps):
        batch.step()
    return batch, padded.numpy(), closing


SCRIPTS = [[10 + i, 11, END, 12, T.SENTENCE, 20, 21, T.SENTENCE, T.SENTENCE, 30] for i in range(12)]


def test_scripts_are_followed_and_every_mark_is_a_sentence(monkeypatch):
    monkeypatch.setattr(generate, "SENTENCE_BUDGET", 6)
    batch, padded, closing = run(SCRIPTS, [4] * 12, slots=4, length=40)
    lengths = batch.length.tolist()
    assert all(lengths[:11]) and int(batch.next_row) > 12  # the last row is done again and again
    for i in range(11):
        text = batch.text[i, : lengths[i]].numpy()
        sentences = generate.sentences_of(padded[i], text, closing)
        expected = [*SCRIPTS[i][:4], *sentences[0], 20, 21, *sentences[1], *sentences[2], 30, END]
        assert text.tolist() == expected and len(sentences) == 3
        assert all((s[-1] == FULL_STOP or len(s) == 6) and FULL_STOP not in s[:-1] for s in sentences)
        assert int(batch.written[i]) == sum(map(len, sentences)) and float(batch.score[i]) < 0


def test_a_row_that_does_not_fit_is_not_finished_and_gives_its_slot_on():
    batch, _, _ = run([SCRIPTS[0] + list(range(20, 40)), *SCRIPTS[1:]], [4] * 12, slots=1, length=30)
    lengths = batch.length.tolist()
    assert lengths[0] == 0 and lengths[1] and lengths[2]


def test_what_a_slot_writes_does_not_depend_on_what_it_held_before():
    """Greedy: the second script of a slot equals the same script in a fresh slot after the same prefix."""

    def greedy(order: list[int], slots: int):
        scripts = [SCRIPTS[i] for i in order] + [SCRIPTS[11]] * 3
        allowed, closing = np.ones(50, dtype=np.int8), np.zeros(50, dtype=bool)
        allowed[:2] = 0
        closing[FULL_STOP] = True
        padded = torch.full((len(scripts), len(SCRIPTS[0]) + 1), END, dtype=torch.int32)
        for row, script in zip(padded, scripts, strict=True):
            row[: len(script)] = torch.tensor(script, dtype=torch.int32)
        plen = torch.full((len(scripts),), 4)
        batch = T.Batch(random_teacher(), [[5, 6]], padded, plen, allowed, closing, slots, 40, 6, END, 1.0, 0.9999, 3)
        for _ in range(120):
            batch.step()
        return [batch.text[i, : int(batch.length[i])].tolist() for i in range(len(order))]

    assert greedy([0, 1], 1) == greedy([0, 1], 2)


@interpreted
def test_kernels_compute_what_the_plain_operations_do():
    generator = torch.Generator().manual_seed(2)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    x, y, weight = normal(5, 64), normal(5, 64), normal(64)
    torch.testing.assert_close(kernels.rms_norm(x, weight, 1e-5), T.CpuOps.rms_norm(x, weight, 1e-5))
    for a, b in zip(kernels.add_rms_norm(x, y, weight, 1e-5), T.CpuOps.add_rms_norm(x, y, weight, 1e-5), strict=True):
        torch.testing.assert_close(a, b)
    gate_up = normal(3, 192)
    torch.testing.assert_close(kernels.silu_mul(gate_up), T.CpuOps.silu_mul(gate_up))
    b, h, g, d, context = 3, 4, 2, 16, 70
    qkv, freq = normal(b, (h + 2 * g) * d), 1e4 ** (-torch.arange(0, d, 2) / d)
    prefix, pos, plen = normal(2, 2, g, 5, d), torch.tensor([0, 3, 68]), torch.tensor([5, 3, 5])
    cache = normal(2, b, g, context, d)
    caches = [cache.clone(), cache.clone()]
    outs = [
        ops.attention(qkv, cache, prefix, pos, plen, freq)
        for ops, cache in zip((kernels, T.CpuOps), caches, strict=True)
    ]
    torch.testing.assert_close(outs[0], outs[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(caches[0], caches[1], atol=1e-5, rtol=1e-5)


@interpreted
def test_the_sampling_kernel_draws_allowed_likely_tokens_with_their_probability():
    logits = torch.tensor([[0.0, 2.0, 1.0, -9.0, 5.0, 1.5]]).repeat(500, 1)
    allowed = torch.tensor([1, 1, 1, 1, 0, 1], dtype=torch.int8)
    tokens, logp = kernels.sample(logits, allowed, torch.tensor([7]), 1.0, float(np.log(0.3)))
    likely = torch.tensor([1, 2, 5])  # at least 0.3 of the likeliest allowed one
    expected = logits[0, likely].softmax(-1)
    share = torch.bincount(tokens, minlength=6)[likely] / 500
    assert float(share.sum()) == 1.0 and float((share - expected).abs().max()) < 0.1
    torch.testing.assert_close(logp, logits.log_softmax(-1)[0, tokens])
