"""A language model of random weights, small enough to be made on the spot.

It speaks nonsense at a real engine's pace: a real tokenizer, real prompt evaluation, real sampling.  The
layout is that of the Llama family with one byte token per byte, so any text can be put in and any output is
text again.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

BYTES = 256
SPECIAL = ["<unk>", "<s>", "</s>"]
WIDTH = 64
HEADS = 4
LAYERS = 2
HIDDEN = 128
CONTEXT = 2048
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)


def write_tiny_model(path: Path, *, seed: int = 7) -> None:
    """Writes a GGUF file of about half a megabyte; the same seed gives the same weights."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _describe(writer)
    _add_tokens(writer)
    _add_weights(writer, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(BYTES + len(SPECIAL))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokens(writer: gguf.GGUFWriter) -> None:
    """Gives the model one token per byte."""
    kinds = gguf.TokenType
    tokens = [text.encode() for text in SPECIAL] + [f"<0x{byte:02X}>".encode() for byte in range(BYTES)]
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL] + [kinds.BYTE] * BYTES
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)


def _add_weights(writer: gguf.GGUFWriter, random: np.random.Generator) -> None:
    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0.0, 0.4, shape).astype(np.float32))

    vocabulary = BYTES + len(SPECIAL)
    add("token_embd.weight", vocabulary, WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}.{name}.weight", WIDTH, WIDTH)
        add(f"{block}.ffn_gate.weight", HIDDEN, WIDTH)
        add(f"{block}.ffn_up.weight", HIDDEN, WIDTH)
        add(f"{block}.ffn_down.weight", WIDTH, HIDDEN)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    output = random.normal(0.0, 0.4, (vocabulary, WIDTH)).astype(np.float32)
    # Only printable text is ever likeliest: after a byte that never becomes a character the engine sends no
    # text and works ever longer on each token, and the end token would cut answers short of their limit.
    output[: len(SPECIAL) + 32] = 0.0
    output[len(SPECIAL) + 127 :] = 0.0
    writer.add_tensor("output.weight", output)


if __name__ == "__main__":
    write_tiny_model(Path(sys.argv[1]))
