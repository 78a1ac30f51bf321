"""A checkpoint small enough to be built in a blink, and its pins."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from pinch_models.pins import ModelPin, load_pins
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "crab", "holds", "on", ".", "tide", "and", "pool"]
HIDDEN, INTERMEDIATE, POSITIONS = 384, 96, 64


def write_tiny(folder: Path) -> None:
    """Write a random two-layer BERT, its config and its tokenizer into ``folder``."""
    random = np.random.default_rng(7)
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(2):
        prefix = f"encoder.layer.{layer}."
        for name, outputs, inputs in (
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INTERMEDIATE, HIDDEN),
            ("output.dense", HIDDEN, INTERMEDIATE),
        ):
            sizes[f"{prefix}{name}.weight"] = (outputs, inputs)
            sizes[f"{prefix}{name}.bias"] = (outputs,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            sizes[f"{prefix}{name}.weight"] = (HIDDEN,)
            sizes[f"{prefix}{name}.bias"] = (HIDDEN,)
    tensors = {
        name: random.normal(1 if "Norm.weight" in name else 0, 0.2, size).astype(np.float32)
        for name, size in sizes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": len(WORDS),
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))


def pin_file(path: Path, **more: Any) -> dict[str, Any]:
    """Return the pin of an existing file."""
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **more}


def tiny_entry(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a user's entry for the checkpoint in ``folder``."""
    names = ("config.json", "model.safetensors", "tokenizer.json")
    entry: dict[str, Any] = {
        "revision": "1",
        "precision": "int8",
        "dimensions": HIDDEN,
        "window": 32,
        "files": {name: pin_file(folder / name) for name in names},
    }
    return entry | changes


def tiny_pin(folder: Path, name: str = "tiny", **changes: Any) -> ModelPin:
    """Return the pin of ``tiny_entry`` as it is read from a user's file."""
    return load_pins(json.dumps({"models": {name: tiny_entry(folder, **changes)}})).model(name)


def quiet(_: str) -> None:
    """Say nothing."""
