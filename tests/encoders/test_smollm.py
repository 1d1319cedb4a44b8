"""The small Llama: its arithmetic against transformers', its file against written-out blocks."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from encoders.smollm import Linear, Llama, Shape, read_gguf

SMALL = Shape(vocabulary=64, width=48, inner=96, layers=2, heads=6, kv_heads=2)
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}  # fmt: skip


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a head from halves to neighbouring pairs, as GGUF files keep them."""
    rows, width = weight.shape
    return weight.view(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)


def both() -> tuple[Llama, LlamaForCausalLM]:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
        rope_theta=100_000.0, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    theirs, ours = LlamaForCausalLM(config).eval(), Llama(SMALL).eval()
    state = {"token_embd.weight": theirs.model.embed_tokens.weight, "output_norm.weight": theirs.model.norm.weight}
    for index, layer in enumerate(theirs.model.layers):
        for name, own in NAMES.items():
            weight = layer.get_submodule(name).weight
            heads = {"attn_q": 6, "attn_k": 2}.get(own)
            state[f"blk.{index}.{own}.weight"] = interleaved(weight, heads) if heads else weight
    ours.load_state_dict(state)
    return ours, theirs


def test_logits_are_those_of_transformers() -> None:
    ours, theirs = both()
    ids = torch.randint(0, 64, (2, 11))
    with torch.no_grad():
        assert (ours.logits(ours(ids)[0]) - theirs(ids).logits).abs().max() < 1e-5


def test_a_text_in_pieces_gives_what_it_gives_at_once() -> None:
    ours, _ = both()
    ids = torch.randint(0, 64, (1, 9))
    with torch.no_grad():
        whole = ours(ids)[0]
        first, past = ours(ids[:, :4])
        second, past = ours(ids[:, 4:8], past)
        third, _ = ours(ids[:, 8:], past)
    assert (torch.cat([first, second, third], 1) - whole).abs().max() < 1e-5


def test_an_adapter_begins_as_nothing_and_merges_into_the_weight() -> None:
    torch.manual_seed(0)
    linear, x = Linear(8, 6), torch.randn(3, 8)
    torch.nn.init.normal_(linear.weight)
    before = linear(x)
    linear.adapt(2)
    assert torch.equal(linear(x), before)
    assert linear.b is not None
    torch.nn.init.normal_(linear.b)
    adapted = linear(x)
    linear.merge()
    assert linear.a is None and torch.allclose(linear(x), adapted, atol=1e-5) and not torch.allclose(adapted, before, atol=1e-2)


def test_quantised_blocks_are_read_by_their_formula(tmp_path: Path) -> None:
    nibbles = np.arange(32) % 16
    low, high = nibbles[:16], nibbles[16:]
    q4 = np.float16(0.5).tobytes() + np.float16(-1.0).tobytes() + (low | high << 4).astype(np.uint8).tobytes()
    levels = np.arange(-16, 16, dtype=np.int8)
    q8 = np.float16(0.25).tobytes() + levels.tobytes()

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    head = struct.pack("<4sIQQ", b"GGUF", 3, 2, 1) + text("general.name") + struct.pack("<I", 8) + text("small")
    for name, kind, offset in (("a", 3, 0), ("b", 8, 32)):
        head += text(name) + struct.pack("<IQIQ", 1, 32, kind, offset)
    head += bytes(-len(head) % 32)
    path = tmp_path / "small.gguf"
    path.write_bytes(head + q4.ljust(32, b"\0") + q8)
    about, tensors = read_gguf(path)
    values = {name: np.concatenate(list(rows())) for name, _, rows in tensors}
    assert about == {"general.name": "small"}
    assert np.array_equal(values["a"], nibbles * 0.5 - 1.0) and np.array_equal(values["b"], levels * 0.25)
