"""Guards against instructions in judged texts: truncation, delimiters and flags. Pure functions on text."""

from __future__ import annotations

import hashlib

import regex

from fairlead.records import Answer, Comparison, Flag

_SALT = "fairlead judge fence 1"

# Phrases that speak to a judge. They are a flag for people to look at, never a verdict.
_INSTRUCTIONS = [
    regex.compile(pattern, regex.IGNORECASE)
    for pattern in (
        r"\b(?:ignore|disregard|forget|override)\s+(?:\w+\s+){0,4}(?:instructions?|prompts?|criteria|rules)\b",
        r"\b(?:choose|pick|select|prefer|vote\s+for|declare)\s+(?:\w+\s+){0,3}(?:answer|response|output|assistant|model)\b",
        r"\b(?:this|my)\s+(?:answer|response|output)\s+(?:is|must\s+be|should\s+be|deserves)\s+(?:\w+\s+){0,3}"
        r"(?:better|best|preferred|winner|rated|scored|10|ten|full\s+marks)\b",
        r"\b(?:give|rate|score|grade|assign)\s+(?:\w+\s+){0,4}(?:a\s+)?(?:10|ten|full\s+marks|highest|maximum|top\s+score)\b",
        r"\b(?:dear|attention|note\s+to(?:\s+the)?)\s+(?:\w+\s+){0,2}(?:judge|evaluator|grader|rater)\b",
        r"\byou\s+are\s+(?:a|an|the)\s+(?:\w+\s+){0,3}(?:judge|evaluator|grader)\b",
        r"\[\[\s*(?:A|B|C|tie|\d+)\s*\]\]",
        r"[\"']?(?:verdict|winner|score|rating)[\"']?\s*[:=]\s*[\"']?(?:A|B|tie|10)\b",
        r"\b(?:BEGIN|END)\s+(?:REQUEST|ANSWER)\b",
        r"<\|?(?:system|im_start|im_end|endoftext|start_header_id)\|?>",
    )
]
_SEARCH_SECONDS = 1.0


def truncate_middle(text: str, limit: int) -> str:
    """The text, or its first three quarters and last quarter of `limit` characters with a note of what is left out."""
    if len(text) <= limit:
        return text
    head = limit * 3 // 4
    tail = limit - head
    return f"{text[:head]}\n[note: {len(text) - limit} of {len(text)} characters are left out here]\n{text[-tail:]}"


def delimiter(*texts: str) -> str:
    """A delimiter that no judged text can contain on purpose: it is a hash of them, so it changes with every attempt.

    The same texts give the same delimiter, whatever their order, so that the stored reply to a request is found again.
    """
    number = 0
    while True:
        material = "\0".join([_SALT, str(number), *sorted(texts)])
        mark = hashlib.sha256(material.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if not any(mark in text for text in texts):
            return mark
        number += 1


_TEXTS = {
    Flag.FIRST_INSTRUCTS_JUDGE: "the first answer",
    Flag.SECOND_INSTRUCTS_JUDGE: "the second answer",
    Flag.ANSWER_INSTRUCTS_JUDGE: "the answer",
}


def flags_of(item: Comparison | Answer) -> dict[Flag, str]:
    """The flags of what a judge is shown, each with a sentence for people that quotes what was found."""
    if isinstance(item, Answer):
        texts = {Flag.ANSWER_INSTRUCTS_JUDGE: item.text}
    else:
        texts = {Flag.FIRST_INSTRUCTS_JUDGE: item.first, Flag.SECOND_INSTRUCTS_JUDGE: item.second}
    return {
        flag: f"{_TEXTS[flag]} contains instructions to the judge: {phrase!r}"
        for flag, text in texts.items()
        if (phrase := instructions_in(text)) is not None
    }


def instructions_in(text: str) -> str | None:
    """The first phrase of a judged text that addresses the judge; None if there is none."""
    for pattern in _INSTRUCTIONS:
        try:
            match = pattern.search(text, timeout=_SEARCH_SECONDS)
        except TimeoutError:
            return "text on which the search for instructions does not come to an end"
        if match:
            return " ".join(match.group(0).split())[:80]
    return None
