"""The parts of the pages that are made from the code: `python -m tests.docs` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from streamer.embedding.contracts import Contract, contract_for, known_models
from streamer.embedding.prices import price_of
from streamer.settings import ProviderName
from streamer.settings.reference import reference_markdown
from tests.docs.markdown import ROOT

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def models_table() -> str:
    """One row a model and provider; the two that run in this process share theirs."""
    head = ["provider", "model", "dimensions", "tokens a text", "texts a request", "tokens a request", "prompts"]
    rows = [f"| {' | '.join(cells)} |" for cells in _rows()]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows]) + "\n"


def _rows() -> Iterator[list[str]]:
    local: dict[str, list[str]] = {}
    for provider in get_args(ProviderName):
        for model in known_models(provider):
            contract = contract_for(provider, model)
            cells = [
                _dimensions(contract),
                _number(contract.max_item_tokens),
                _number(contract.max_items),
                _number(contract.max_request_tokens),
                _prompts(contract),
            ]
            if contract.is_local and local.setdefault(model, cells) is not cells:
                assert local[model] == cells, f"{model} is not the same for both"
                continue
            yield ["onnx, sentence-transformers" if contract.is_local else provider, model, *cells]


def prices_table() -> str:
    rows = [
        f"| {provider} | {model} | {price.usd_per_million_tokens:.2f} | {price.as_of} |"
        for provider in get_args(ProviderName)
        for model in known_models(provider)
        if (price := price_of(provider, model)) is not None
    ]
    return "\n".join(["| provider | model | US dollars | looked up |", "|---|---|---|---|", *rows]) + "\n"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _dimensions(contract: Contract) -> str:
    allowed = contract.allowed_dimensions
    if isinstance(allowed, range):
        return f"{contract.dimensions}; any from {allowed.start} to {allowed.stop - 1}"
    others = sorted(set(allowed) - {contract.dimensions})
    return f"{contract.dimensions}" + (f"; {', '.join(map(str, others))}" if others else "")


def _prompts(contract: Contract) -> str:
    pairs = [("input_type", contract.document_input_type, contract.query_input_type)]
    pairs += [("prefix", contract.document_prefix, contract.query_prefix)]
    return "; ".join(
        f"{kind} {f'`{document}`' if document else 'none'}, query {f'`{query}`' if query else 'none'}"
        for kind, document, query in pairs
        if document or query
    )


PARTS: Mapping[str, Callable[[], str]] = {
    "models": models_table,
    "prices": prices_table,
    "settings": reference_markdown,
}
GENERATED_PAGES = [ROOT / "docs" / f"{name}.md" for name in ("providers", "configuration", "costs")]


def regenerated(page: Path) -> str:
    """The page as it should be."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", page.read_text())
