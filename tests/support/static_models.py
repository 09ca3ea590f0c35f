"""Small models in folders, real ones for the provider `static`: quick to load, and each a space of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from streamer.adapters.providers.onnx_models import VOCABULARY


def static_model(seed: int, dimensions: int) -> StaticModel:
    """Of the English vocabulary of BERT, its vectors at random."""
    tokenizer = Tokenizer(models.WordPiece.from_file(str(VOCABULARY), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    table = np.random.default_rng(seed).standard_normal((tokenizer.get_vocab_size(), dimensions))
    return StaticModel(table.astype(np.float32), tokenizer)


def static_folder(folder: Path, model: StaticModel) -> Path:
    """As `provider.model` wants it."""
    model.save_pretrained(folder)
    return folder
