"""Triton kernels of the teacher's decode step. Their meaning is CpuOps in teacher.py."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _add_rms_norm(x, y, weight, total, out, eps, n, HAS_Y: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    mask = i < n
    s = tl.load(x + row * n + i, mask, 0.0)
    if HAS_Y:
        s = s + tl.load(y + row * n + i, mask, 0.0)
        tl.store(total + row * n + i, s, mask)
    f = s.to(tl.float32)
    scale = tl.rsqrt(tl.sum(f * f, 0) / n + eps)
    f = f * scale * tl.load(weight + i, mask, 0.0).to(tl.float32)
    tl.store(out + row * n + i, f.to(s.dtype), mask)


def rms_norm(x, weight, eps):
    out = torch.empty_like(x)
    n = x.shape[1]
    _add_rms_norm[(x.shape[0],)](x, x, weight, x, out, eps, n, False, triton.next_power_of_2(n))
    return out


def add_rms_norm(residual, y, weight, eps):
    total, out = torch.empty_like(residual), torch.empty_like(residual)
    n = residual.shape[1]
    _add_rms_norm[(residual.shape[0],)](residual, y, weight, total, out, eps, n, True, triton.next_power_of_2(n))
    return total, out


@triton.jit
def _silu_mul(x, out, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    gate = tl.load(x + row * 2 * n + i, mask, 0.0).to(tl.float32)
    up = tl.load(x + row * 2 * n + n + i, mask, 0.0).to(tl.float32)
    tl.store(out + row * n + i, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask)


def silu_mul(x):
    n = x.shape[1] // 2
    out = torch.empty(x.shape[0], n, dtype=x.dtype, device=x.device)
    _silu_mul[(x.shape[0], triton.cdiv(n, 512))](x, out, n, 512)
    return out


@triton.jit
def _rope_store(qkv, q, k, v, pos, plen, freq, context, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr):
    """One program a (slot, head): rotates q and k, writes q out and k, v into the cache at `pos`."""
    b = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    p = tl.load(pos + b)
    i = tl.arange(0, D // 2)
    src = qkv + (b * (H + 2 * G) + head) * D
    even = tl.load(src + 2 * i).to(tl.float32)
    odd = tl.load(src + 2 * i + 1).to(tl.float32)
    angle = (p + tl.load(plen + b)).to(tl.float32) * tl.load(freq + i)
    cos, sin = tl.cos(angle), tl.sin(angle)
    r_even, r_odd = even * cos - odd * sin, even * sin + odd * cos
    if head < H:
        dst = q + (b * H + head) * D
        tl.store(dst + 2 * i, r_even.to(q.dtype.element_ty))
        tl.store(dst + 2 * i + 1, r_odd.to(q.dtype.element_ty))
    elif head < H + G:
        dst = k + ((b * G + head - H) * context + p) * D
        tl.store(dst + 2 * i, r_even.to(k.dtype.element_ty))
        tl.store(dst + 2 * i + 1, r_odd.to(k.dtype.element_ty))
    else:
        dst = v + ((b * G + head - H - G) * context + p) * D
        tl.store(dst + 2 * i, even.to(v.dtype.element_ty))
        tl.store(dst + 2 * i + 1, odd.to(v.dtype.element_ty))


@triton.jit
def _attend(q_tile, k, v, count, top, total, acc, scale, D: tl.constexpr, BLOCK: tl.constexpr):
    """Adds keys and values [count, D] at k, v to a running softmax (top, total, acc)."""
    d = tl.arange(0, D)
    for start in range(0, count, BLOCK):
        n = start + tl.arange(0, BLOCK)
        at = n[:, None] * D + d[None, :]
        live = n[:, None] < count
        k_tile = tl.load(k + at, live, 0.0)
        s = tl.dot(q_tile, tl.trans(k_tile)) * scale
        s = tl.where(n[None, :] < count, s, -1e30)
        new_top = tl.maximum(top, tl.max(s, 1))
        e = tl.exp(s - new_top[:, None])
        shrink = tl.exp(top - new_top)
        total = total * shrink + tl.sum(e, 1)
        v_tile = tl.load(v + at, live, 0.0)
        acc = acc * shrink[:, None] + tl.dot(e.to(v_tile.dtype), v_tile)
        top = new_top
    return top, total, acc


@triton.jit
def _decode_attention(
    q,
    k,
    v,
    pk,
    pv,
    out,
    pos,
    plen,
    context,
    K,
    P,
    scale,
    H: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a (slot, key/value head); its H / G query heads are padded to 16 rows for the matrix units."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1)
    R: tl.constexpr = H // G
    r = tl.arange(0, 16)
    d = tl.arange(0, D)
    q_at = (b * H + g * R + r[:, None]) * D + d[None, :]
    q_tile = tl.load(q + q_at, r[:, None] < R, 0.0)
    top = tl.full([16], -1e30, tl.float32)
    total = tl.zeros([16], tl.float32)
    acc = tl.zeros([16, D], tl.float32)
    shared = ((b % K) * G + g) * P * D
    top, total, acc = _attend(q_tile, pk + shared, pv + shared, tl.load(plen + b), top, total, acc, scale, D, BLOCK)
    own = (b * G + g) * context * D
    top, total, acc = _attend(q_tile, k + own, v + own, tl.load(pos + b) + 1, top, total, acc, scale, D, BLOCK)
    tl.store(out + q_at, (acc / total[:, None]).to(out.dtype.element_ty), r[:, None] < R)


def attention(qkv, cache, prefix, pos, plen, freq):
    _, b, g, context, d = cache.shape
    h = qkv.shape[1] // d - 2 * g
    (k, v), (pk, pv) = cache, prefix
    q = torch.empty(b, h * d, dtype=qkv.dtype, device=qkv.device)
    out = torch.empty_like(q)
    _rope_store[(b, h + 2 * g)](qkv, q, k, v, pos, plen, freq, context, h, g, d, num_warps=1)
    _decode_attention[(b, g)](
        q, k, v, pk, pv, out, pos, plen, context, prefix.shape[1], prefix.shape[3], d**-0.5, h, g, d, 64, num_warps=4
    )
    return out


@triton.jit
def _sample(logits, allowed, seed, out, logp, n, inv_temperature, log_min_p, BLOCK: tl.constexpr):
    """Gumbel-max over the allowed tokens whose probability is at least min_p of the likeliest."""
    row = tl.program_id(0).to(tl.int64)
    top = tl.full([BLOCK], -1e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    peak = tl.full([BLOCK], -1e30, tl.float32)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        x = tl.load(logits + row * n + i, i < n, -1e30).to(tl.float32)
        new_peak = tl.maximum(peak, x)
        total = total * tl.exp(peak - new_peak) + tl.exp(x - new_peak)
        peak = new_peak
        ok = (i < n) & (tl.load(allowed + i, i < n, 0) != 0)
        top = tl.maximum(top, tl.where(ok, x, -1e30))
    highest = tl.max(peak, 0)
    log_z = highest + tl.log(tl.sum(total * tl.exp(peak - highest), 0))
    floor = tl.max(top, 0) * inv_temperature + log_min_p
    best = tl.full([BLOCK], -1e30, tl.float32)
    where = tl.zeros([BLOCK], tl.int32)
    s = tl.load(seed)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        ok = (i < n) & (tl.load(allowed + i, i < n, 0) != 0)
        x = tl.load(logits + row * n + i, i < n, 0.0).to(tl.float32) * inv_temperature
        u = tl.rand(s, (row * n + i).to(tl.uint32))
        noisy = x - tl.log(-tl.log(tl.maximum(u, 1e-9)) + 1e-20)
        noisy = tl.where(ok & (x >= floor), noisy, -1e30)
        better = noisy > best
        best = tl.where(better, noisy, best)
        where = tl.where(better, i, where)
    at = tl.argmax(best, 0)
    pick = tl.sum(tl.where(tl.arange(0, BLOCK) == at, where, 0), 0)
    tl.store(out + row, pick.to(tl.int64))
    tl.store(logp + row, tl.load(logits + row * n + pick).to(tl.float32) - log_z)


def sample(logits, allowed, seed, temperature, log_min_p):
    out = torch.empty(logits.shape[0], dtype=torch.int64, device=logits.device)
    logp = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
    _sample[(logits.shape[0],)](logits, allowed, seed, out, logp, logits.shape[1], 1 / temperature, log_min_p, 1024)
    return out, logp
