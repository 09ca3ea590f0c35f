"""What the refusals of embedding services mean: one table for all vendors.

It decides between "later", "not before a person has mended the account or the settings" and "never this text", so a
mistake here either loses texts or stops the stream; every row has a test. Where it is in doubt it may err: before a
text is given up, the dispatcher sees whether a harmless one passes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

Meaning: TypeAlias = Literal["retriable", "limited", "blocked", "rejected", "too_long"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a body says. `reason`: the vendor's sentence. `code`: its machine words. `fields`: the fields of the request
    that it complains about; `status`: the HTTP status that it names in itself, 0 for none."""

    reason: str = ""
    code: str = ""
    fields: frozenset[str] = frozenset()
    status: int = 0


_TRANSIENT = frozenset({408, 409, 424, 425, 499})
# 498 is Cohere's "invalid token". Redirects and 405 are a wrong base_url: no text is to blame for those.
_ACCOUNT = frozenset({401, 402, 403, 404, 405, 410, 498})

# An empty account, which some services call a rate limit or a bad request. 1113 is Zhipu's (z.ai).
_QUOTA_CODE = re.compile(
    r"insufficient[_ ]?(user_)?(quota|balance|funds|credits?)|billing_(not_active|hard_limit)|budget_exceeded"
    r"|(credit|balance|quota)_?(exhausted|depleted)|access_terminated|arrearage|payment_required|\b1113\b",
    re.I,
)
_QUOTA_REASON = re.compile(
    r"/ ?month|per month|monthly"  # Cohere's trial keys: so many calls a minute (a rate) or a month (a quota)
    r"|insufficient (account |user )?(balance|quota|funds?|credits?)|not enough (balance|credits?|funds)"
    r"|(balance|credits?|funds) (is|are|has been|have been) (too low|insufficient|exhausted|depleted|used up|negative)"
    r"|(balance|credits?) (too low|exhausted|depleted)|(out of|no (remaining|more)|ran out of) (credits?|balance|funds)"
    r"|please (recharge|top[ -]?up)|recharge your|billing (hard )?limit"
    r"|budget (has been )?exceeded|exceeded? (your )?budget"
    r"|(spend(ing)?|usage|cost) (limit|cap)\b.{0,20}(reached|exceeded)|account is (not active|in arrears|overdue)"
    r"|余额不足|欠费|余额已用尽",
    re.I,
)
_BUSY = re.compile(r"server busy|overloaded|maximum pending requests", re.I)
_KEY = re.compile(
    r"(api|access)[ _-]?(key|token)|\bunauthori[sz]ed|authentication|invalid[ _](token|key)|no connected db", re.I
)
_NO_KEY = re.compile(
    r"(api|access)[ _-](key|token) not valid|(invalid|incorrect|missing|wrong) (api|access)[ _-]?(key|token)"
    r"|invalid_?api_?key|no connected db|authenticationerror|authentication[ _]error",
    re.I,
)
_MODEL = re.compile(
    r"model_not_found|DeploymentNotFound|unsupported_model|model_?not_?exist|invalid model|unknown model|no such model"
    r"|model\b.{0,80}\b(not found|not supported|(does|do) not exist|not available|not exist)",
    re.I,
)
# In a sentence, only names that no sentence about a text would hold.
_FIELD = r"encoding_format|input_type|output_dimensions?|output_dtype|embedding_types?|task_type|dimensions|truncation"
_SETUP_REASON = re.compile(
    r"matryoshka|base64 (encoding|format|embeddings?)?.{0,30}not.{0,20}support|not support.{0,40}base64"
    r"|(not support|mismatch|invalid|unsupported|unknown|specifying|must be|not valid|not permitted)"
    rf".{{0,60}}\b({_FIELD})\b"
    rf"|\b({_FIELD})\b.{{0,60}}"
    r"\b(must|not supported|invalid|not valid|not permitted|not allowed|unknown|should (be|not))",
    re.I,
)
# Frameworks that list their complaints by field (Django, Laravel, ASP.NET) know no other names than the request's.
_REQUEST_FIELD = re.compile(rf"({_FIELD}|model|user|input|texts|truncate|keep_alive)\Z", re.I)
_NAMED = re.compile(rf"\b({_FIELD})\b", re.I)
# `Unrecognized request argument supplied: user`, `unknown field "x"`, `got an unexpected keyword argument 'x'`.
_UNKNOWN_FIELD = re.compile(
    r"(?:unrecogni[sz]ed|unknown|unsupported|unexpected|extra|invalid|additional)"
    r"(?: request| keyword| json| body)? (?:argument|parameter|param|field|propert(?:y|ies)|key)s?"
    r"(?: supplied| name)?\W{0,4}([A-Za-z_][\w.]*)",
    re.I,
)
# vLLM prints pydantic's complaints into its sentence.
_PRINTED_LOC = re.compile(r"'loc': [(\[]\s*'(?:body|query|header)'\s*,\s*'([\w.-]+)'")
_TEXT_FIELD = re.compile(r"input(?!_type)|(texts?|prompts?|contents?|documents?|sentences?|messages?|query)\b", re.I)
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (input|sequence|model) length|too many (input )?tokens|too long"
    r"|max_tokens_per_request|max(imum)? allowed tokens|max \d+ tokens|(less|fewer) than \d+ (tokens|characters)"
    r"|tokens exceeds?\b|exceed\w* .{0,40}tokens|too large to process",
    re.I,
)
# Ollama's encoder cannot write a NaN: the model's answer to one text of the call fails it with status 500, each time.
_POISON = re.compile(r"unsupported value: NaN|NaN or Inf", re.I)
_LIMITED = re.compile(r"rate[ _-]?limit|too many requests|resource_exhausted|throttl|\b(rpm|tpm)\b", re.I)
_LATER = re.compile(r"time[d ]*[ -]?out|unavailable|overloaded|server error|internal|upstream|try again|busy", re.I)


def meaning(status: int, refusal: Refusal) -> Meaning:
    """The class of a refusal."""
    reason, code = refusal.reason, refusal.code
    if is_empty_account(status, refusal):
        return "blocked"
    if status >= 500:
        if _POISON.search(reason):
            return "rejected"
        if _TOO_LONG.search(reason):
            return "too_long"
        return "limited" if status == 503 and _BUSY.search(reason) else "retriable"
    if status == 429:
        return "limited"
    if status in _TRANSIENT:
        return "retriable"
    if status in _ACCOUNT or status < 400 or is_about_setup(refusal):
        return "blocked"
    return "too_long" if status == 413 or _TOO_LONG.search(f"{code} {reason}") else "rejected"


def is_empty_account(status: int, refusal: Refusal) -> bool:
    """Whether there is no money left, in whatever status a service says so."""
    return status == 402 or bool(_QUOTA_CODE.search(refusal.code) or _QUOTA_REASON.search(refusal.reason))


def is_about_setup(refusal: Refusal) -> bool:
    """Whether it is the key, the model or an option of the request that is refused, and not its texts."""
    said = f"{refusal.code} {refusal.reason}"
    if _NO_KEY.search(said) or _MODEL.search(said) or _SETUP_REASON.search(refusal.reason):
        return True
    return bool(refusal.fields) and not any(_TEXT_FIELD.match(name) for name in refusal.fields)


def is_about_encoding(refusal: Refusal) -> bool:
    """Whether the server does not want `encoding_format`, or not this one."""
    return "encoding_format" in refusal.fields or bool(
        re.search(r"\bbase64\b|\bencoding_format\b", refusal.reason, re.I) and is_about_setup(refusal)
    )


def status_inside(refusal: Refusal) -> int:
    """The status that a service meant which wraps its error into a success: what it names, else what its words say."""
    said = f"{refusal.code} {refusal.reason}"
    if 400 <= refusal.status < 600:
        return refusal.status
    if is_empty_account(0, refusal):
        return 402
    for status, words in ((429, _LIMITED), (401, _NO_KEY), (404, _MODEL)):
        if words.search(said):
            return status
    if _KEY.search(said):
        return 401
    return 503 if _LATER.search(said) else 400


def cause(status: int, refusal: Refusal) -> Literal["key", "quota", "other"]:
    """What of the account is behind a refusal that means "blocked"."""
    if is_empty_account(status, refusal) or status == 429:
        return "quota"
    is_about_key = status in (401, 403, 498) or _KEY.search(f"{refusal.code} {refusal.reason}")
    return "key" if is_about_key else "other"


def remedy(status: int, refusal: Refusal) -> str:
    """What a person can do about a refusal that means "blocked"."""
    said = f"{refusal.code} {refusal.reason}"
    fields = refusal.fields | {name.lower() for name in _NAMED.findall(refusal.reason)}
    if cause(status, refusal) == "quota":
        return "the account has used up its quota or credit: raise it, or wait for the next period"
    if cause(status, refusal) == "key":
        return "check the API key"
    if status < 400 or status == 405:
        return "check provider.base_url"
    if is_about_encoding(refusal):
        return 'set provider.encoding_format = "float", or "none" to leave it out'
    if _MODEL.search(said) or "model" in fields:
        return "check provider.model"
    if fields & {"dimensions", "output_dimension", "output_dimensions"} or "matryoshka" in said.lower():
        return "check provider.dimensions and provider.model"
    if fields & {"input_type", "task_type"}:
        return "check provider.input_type and provider.query_input_type"
    if status in (404, 410):
        return "check provider.base_url and provider.model"
    if fields:
        return f"the service does not take {', '.join(sorted(fields))} as it is sent: check provider.base_url and name"
    return "check provider.model, provider.dimensions and the input types"


def stated(body: object) -> Refusal:
    """What any vendor's error body says; nothing where it has no such thing, as with a proxy's HTML page.

    `{"error": {"message", "type", "param", "code"}}` OpenAI, Azure, vLLM · `{"message"}` Cohere, older vLLM ·
    `{"detail"}` Voyage, FastAPI · `{"error", "error_type"}` Ollama, TEI · `{"code", "msg"}` and `{"errors": [...]}` ·
    `{"message": [...]}` NestJS · `{"issues"}` Zod · `{"field": ["why"]}` and `{"errors": {"field": ["why"]}}`.
    """
    if isinstance(body, bytes | str):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Refusal()
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Refusal()
    error: Any = body.get("error") or body.get("errors") or body
    if isinstance(error, list):
        error = error[0] if error else {}
    if not isinstance(error, dict):
        error = {**body, "message": error, "type": body.get("error_type") or body.get("type")}
    listed = body["message"] if isinstance(body.get("message"), list) else error.get("issues")
    reason = listed or error.get("message") or error.get("detail") or error.get("msg") or body.get("message")
    fields = set(_fields(error.get("param"))) | set(_fields(error.get("field")))
    by_field = _by_field(reason, (str, list)) if isinstance(reason, dict) else _by_field(error, list)
    if isinstance(reason, dict):
        reason = reason.get("error") or reason.get("message") or reason.get("msg")
    if by_field and not isinstance(reason, str | list):
        fields |= set(by_field)
        reason = "; ".join(f"{name}: {why}" for name, why in by_field.items())
    if isinstance(reason, list):  # FastAPI's list of complaints; its `input` field would quote the user's text
        complaints = [item for item in reason if isinstance(item, dict)]
        places = [item.get("loc", item.get("path")) for item in complaints]
        fields |= {name for place in places for name in _located(place)}
        said = [item.get("msg", item.get("message")) for item in complaints]
        lines = [f"{_dotted(place)}: {why}" for place, why in zip(places, said, strict=True)]
        reason = "; ".join([*lines, *(item for item in reason if isinstance(item, str))])
    reason = reason if isinstance(reason, str) else ""
    fields |= set(_PRINTED_LOC.findall(reason)) | set(_UNKNOWN_FIELD.findall(reason))
    code = " ".join(str(error[name]) for name in ("code", "type", "status", "param") if error.get(name))
    status = next((n for name in ("code", "status", "status_code") if (n := _status(error.get(name)))), 0)
    return Refusal(reason, code, frozenset(fields), status)


def wraps_error(answer: dict[str, Any], data: object) -> bool:
    """Whether an answer with status 200 is an error in truth: it says one, and holds no embeddings."""
    if isinstance(data, list | dict) and data:
        return False
    if answer.get("error") or answer.get("errors"):
        return True
    says = any(isinstance(answer.get(name), str) for name in ("message", "msg", "detail"))
    return says and not isinstance(data, list)


def _by_field(complaints: dict[str, Any], form: Any) -> dict[str, str]:
    """What is said of fields of the request, where the keys are their names. `form`: of a complaint."""
    found = {}
    for name, why in complaints.items():
        words = why if isinstance(why, list) else [why]
        if _REQUEST_FIELD.match(name) and isinstance(why, form) and all(isinstance(word, str) for word in words):
            found[name.lower()] = " ".join(words)
    return found


def _fields(value: object) -> Iterator[str]:
    if isinstance(value, str) and (match := re.match(r"\W*(?:body\.)?([A-Za-z_][\w-]*)", value)):
        yield match[1]


def _located(loc: object) -> Iterator[str]:
    names = [part for part in loc if isinstance(part, str)] if isinstance(loc, list | tuple) else []
    names = names[1:] if names[:1] in (["body"], ["query"], ["header"], ["path"]) else names
    yield from names[:1]


def _dotted(loc: object) -> str:
    return ".".join(map(str, loc)) if isinstance(loc, list | tuple) else str(loc)


def _status(value: object) -> int:
    try:
        number = int(value) if isinstance(value, int | str) else 0
    except ValueError:
        return 0
    return number if 400 <= number < 600 else 0
