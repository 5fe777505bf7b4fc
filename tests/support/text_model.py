"""A small random BERT with a tokenizer in a folder, as `save_pretrained` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "##s", "$", "t", "a", "good", "bad"]
#: Tokens that the model takes, and the width of its features.
MOST, WIDTH = 12, 16


def write_bert(folder: Path, transformers: Any, seed: int = 4) -> Path:
    """Write the model and return its folder."""
    import torch

    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=MOST,
    )  # fmt: skip
    model = transformers.BertModel(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)
    model.eval().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder
