"""What can be wrong with one text: cut off, in another language, holding template tokens or secrets. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LONG_ENOUGH = 80  # characters below which an answer may well end without a full stop
# Words with which no sentence ends; prepositions may: "what it is used for".
_DANGLING = {
    "the", "an", "and", "or", "because", "whose", "which", "than", "und", "oder", "weil", "et", "ou", "le", "les",
    "des", "y", "el", "los", "las",
}  # fmt: skip
_OPEN_END = ",;([{–-"
_LIST_LINE = re.compile(r"\s*(?:[-*•|#>]|\d+[.)])|.*\bhttps?://\S*\Z|.*`\Z")

_TEMPLATE = re.compile(
    r"<\|(?:im_start|im_end|im_sep|endoftext|eot_id|eom_id|start_header_id|end_header_id|begin_of_text|end_of_text"
    r"|system|user|assistant|end|pad)\|>|\[/?INST\]|<</?SYS>>|\A\s*<s>|</s>|<(?:start|end)_of_turn>"
    r"|<｜[^｜\n]{1,40}｜>|<(?:bos|eos|pad)>|\n\n(?:Human|Assistant):|(?:\A|\n)###\s*(?:Instruction|Response|Human|Assistant):"
)
_TEMPLATE_MARKS = ("<|", "INST]", "SYS>>", "s>", "_of_turn>", "<｜", "\n\nHuman:", "\n\nAssistant:", "###")

# A value that people would type as a password: letters and digits, no placeholder.
_PASSWORD = re.compile(
    r"(?i)\b(?:password|passwd)[\"']?\s*[:=]\s*[\"']?"
    r"(?![^\s\"']*(?:password|example|placeholder|changeme|your|secret|1234|xxxx|env|[<>{}()$*]))"
    r"(?=[^\s\"']*\d)(?=[^\s\"']*[a-z])[^\s\"',;]{8,64}(?=[\s\"',;.]|\Z)"
)
_SECRETS = (
    ("private key", "-----BEGIN", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("AWS key", "AKIA", re.compile(r"\bAKIA[0-9A-Z]{16}\b")),
    ("API key", "_live_", re.compile(r"\b(?:sk|rk)_live_[A-Za-z0-9]{16,}")),
    ("AWS key", "ecret", re.compile(r"(?i)\baws_?secret_?access_?key[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9/+=]{30,}")),
    ("AWS key", "SECRET", re.compile(r"\bAWS_?SECRET_?ACCESS_?KEY[\"']?\s*[:=]\s*[\"']?[A-Za-z0-9/+=]{30,}")),
    *(("password", mark, _PASSWORD) for mark in ("assword", "ASSWORD", "asswd")),
    ("API key", "sk-", re.compile(r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{20,}")),
    ("GitHub token", "gh", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}")),
    ("GitHub token", "github_pat_", re.compile(r"\bgithub_pat_\w{40,}")),
    ("Slack token", "xox", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("Google key", "AIza", re.compile(r"\bAIza[0-9A-Za-z_-]{35}")),
    ("Hugging Face token", "hf_", re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    ("JSON Web Token", "eyJ", re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    (
        "password in a URL",
        "://",
        re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@<>\"']{1,64}:[^\s/:@<>\"']{3,64}@[\w.-]+"),
    ),
)
_EMAIL = re.compile(r"[\w.+-]{1,64}@((?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24})\b")
_NOBODY = re.compile(r"(?:.*\.)?(?:example|test|invalid|localhost)(?:\.\w+)?", re.IGNORECASE)

_SCRIPTS = (
    ("Greek", "Ͱ", "Ͽ"),
    ("Cyrillic", "Ѐ", "ԯ"),
    ("Hebrew", "֐", "׿"),
    ("Arabic", "؀", "ۿ"),
    ("Devanagari", "ऀ", "ॿ"),
    ("Thai", "฀", "๿"),
    ("Japanese", "぀", "ヿ"),
    ("Chinese", "一", "鿿"),
    ("Korean", "가", "힯"),
)
_COMMON = {
    "English": "the of and to in is that for with this are you be have not it on as was can from",
    "German": "der die und das ist nicht ein eine mit von zu den auf für sich dem auch es werden wird ich sie",
    "French": "le la les et des est une un que pour dans qui pas sur avec vous au du ce il plus",
    "Spanish": "el la los las de que y en es una por con para no se del como más su al lo",
    "Italian": "il la di che e è un una per non con sono del della come più gli le si nel",
    "Portuguese": "o a os as de que e do da em um uma para não com é por mais se dos",
    "Dutch": "de het een van en is dat niet op te met voor zijn aan er ook als bij maar om",
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)
_LOOKED_AT = 600  # characters
_FOREIGN_LETTERS, _FOREIGN_SHARE = 20, 0.1  # of a part that is no quotation
_EAST = ("Japanese", "Chinese", "Korean")  # whose texts share letters
_FOREIGN = re.compile("[" + "".join(f"{low}-{high}" for name, low, high in _SCRIPTS if name != "Greek") + "]")


def is_truncated(text: str) -> bool:
    """Whether a text stops in the middle: in a word or a clause of prose, or inside a fence of code."""
    text = text.rstrip()
    if text.count("```") % 2:
        return True
    if len(text) < _LONG_ENOUGH:
        words = text.split()
        return len(words) > 2 and (words[-1] in _DANGLING or text[-1] in _OPEN_END)
    if not (text[-1].isalnum() or text[-1] in _OPEN_END):
        return False
    last = text.rsplit("\n", 1)[-1]
    return len(last) >= 40 and not _LIST_LINE.match(last)


def template_token(text: str) -> str | None:
    """The first token of a chat template that stands in a text as text."""
    if not any(mark in text for mark in _TEMPLATE_MARKS):
        return None
    match = _TEMPLATE.search(text)
    return match.group(0).strip() if match else None


def secret(text: str) -> str | None:
    """The kind of the first secret in a text; never the secret itself."""
    return next((kind for kind, mark, pattern in _SECRETS if mark in text and pattern.search(text)), None)


def has_email(text: str) -> bool:
    """Whether an e-mail address stands in a text; addresses of the reserved domains (RFC 2606) are nobody's."""
    return "@" in text and any(_NOBODY.fullmatch(match.group(1)) is None for match in _EMAIL.finditer(text))


def language(text: str) -> str | None:
    """The language of a text by its script, or by the commonest words of seven languages; None where unclear."""
    text = text[:_LOOKED_AT]
    if not text.isascii():
        script = _script(text)
        if script is not None:
            return script
    counts: dict[str, int] = {}
    for word in text.lower().split():
        for name in _LANGUAGES_OF.get(word, ()):
            counts[name] = counts.get(name, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])[:2]
    if not ranked or ranked[0][1] < 4 or (len(ranked) > 1 and ranked[0][1] < 1.5 * ranked[1][1]):
        return None
    return ranked[0][0]


def foreign_script(text: str, prompt: str) -> str | None:
    """A script in which a part of an answer stands, while most of it and all of its prompt stand in others.

    Greek letters are left out: they are mathematics as often as language.
    """
    if text.isascii() or len(_FOREIGN.findall(text)) < _FOREIGN_LETTERS:
        return None
    letters = [char for char in text if char.isalpha()]
    counts = _scripts(letters)
    if counts["Japanese"]:  # Chinese letters belong to it
        counts["Japanese"] += counts.pop("Chinese")
    least = max(_FOREIGN_LETTERS, _FOREIGN_SHARE * len(letters))
    scripts = [name for name, count in counts.items() if name != "Greek" and least <= count <= len(letters) / 2]
    asked = _scripts(prompt) if scripts else {}
    return next(
        (name for name in scripts if not any(asked[one] for one in (_EAST if name in _EAST else (name,)))), None
    )


def _scripts(letters: Iterable[str]) -> dict[str, int]:
    letters = list(letters)
    return {name: sum(low <= char <= high for char in letters) for name, low, high in _SCRIPTS}


def _script(text: str) -> str | None:
    letters = [char for char in text if char.isalpha()]
    counts = _scripts(letters)
    if counts["Japanese"] and counts["Japanese"] + counts["Chinese"] > len(letters) / 2:
        return "Japanese"
    name = max(counts, key=lambda script: counts[script])
    return name if counts[name] > len(letters) / 2 else None
