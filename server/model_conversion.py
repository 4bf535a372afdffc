"""Turns SmolLM2's GGUF file into a checkpoint that vLLM serves: `python model_conversion.py GGUF FOLDER`.

A program of its own because it loads PyTorch, which must never happen in the front end's process.
It imports nothing of ours, and knows nothing of caches, downloads or settings.
"""

import sys
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

_END_OF_TURN = "<|im_end|>"
_READABLE_BY_ALL = 0o644  # safetensors writes files that only their owner can read


def convert(gguf: Path, folder: Path) -> None:
    """Writes weights (bf16), configuration and tokenizer of the chat model in `gguf` to `folder`.

    Raises:
        ValueError: a chat with the result would not stop at the end of a turn.
    """
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    # The file names its splitting rule only as "smollm", of which transformers keeps the byte-level half. The other
    # half makes each digit a piece of its own, as the model was trained; it matters to spaces in front of numbers.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    end_of_turn = tokenizer.convert_tokens_to_ids(_END_OF_TURN)
    if not tokenizer.eos_token_id == model.generation_config.eos_token_id == end_of_turn:
        raise ValueError(f"{gguf.name}: chats would not stop at {_END_OF_TURN}")
    if _END_OF_TURN not in (tokenizer.chat_template or ""):
        raise ValueError(f"{gguf.name}: no chat template that ends turns with {_END_OF_TURN}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(_READABLE_BY_ALL)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
