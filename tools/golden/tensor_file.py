"""Writes safetensors files with nothing but the standard library."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Tensor(NamedTuple):
    """A dense, row-major tensor; dtype is F32, BF16 or I32."""

    dtype: str
    shape: tuple[int, ...]
    values: Sequence[float]


def to_bf16_bits(value: float) -> int:
    """The upper half of the fp32 nearest to `value`, rounded to even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def pack(tensor: Tensor) -> bytes:
    count = len(tensor.values)
    if tensor.dtype == "F32":
        return struct.pack(f"<{count}f", *tensor.values)
    if tensor.dtype == "I32":
        return struct.pack(f"<{count}i", *(int(value) for value in tensor.values))
    if tensor.dtype == "BF16":
        return struct.pack(f"<{count}H", *(to_bf16_bits(value) for value in tensor.values))
    raise ValueError(f"cannot write {tensor.dtype}")


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    # Wide elements first, so that every tensor is aligned to its dtype.
    widths = {"F32": 4, "I32": 4, "BF16": 2}
    names = sorted(tensors, key=lambda name: (-widths[tensors[name].dtype], name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    chunks = []
    offset = 0
    for name in names:
        tensor = tensors[name]
        chunk = pack(tensor)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))
