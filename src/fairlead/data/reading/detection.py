"""In which form preference rows are, and what a row holds in it: pairs, or why it makes none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.data.reading import comparisons
from fairlead.data.reading.fields import or_reason
from fairlead.data.reading.formats import FORMATS, SCORES, TRANSCRIPT_TURN
from fairlead.data.reading.rows import Row
from fairlead.errors import DataError, some
from fairlead.files import dump_json
from fairlead.records import DropReason, Preference

NAMES = (*FORMATS, *comparisons.FORMS)

_READ = {
    "prompt",
    "chosen",
    "rejected",
    "conversations",
    "system",
    "gold",
    "cluster",
    "messages",
    "margin",
    "provenance",
}
_ALSO_READ = {
    "openai": {"input", "preferred_output", "non_preferred_output"},
    "distilabel": {"instruction", "input", "system_prompt", "chosen_response", "rejected_response"},
    "alpaca_eval": {"instruction", "output_1", "output_2"},
    "pandalm": {"instruction", "input", "response1", "response2"},
    "llmbar": {"input", "output_1", "output_2", "label"},
    "qa_feedback": {"question", "passages", "answers", "preference"},
    "comparison": {"first", "second", "first_model", "second_model"},
}


def preferences_of(name: str, row: Row) -> list[Preference | DropReason]:
    """What a row holds in the form `name`: its pairs, and why what makes no pair makes none.

    Raises:
        DataError: if the row is malformed.
    """
    if name not in FORMATS:
        return [or_reason(comparisons.preference, judged) for judged in comparisons.FORMS[name][1](row)]
    return [or_reason(FORMATS[name], row)]


def detect(row: Row) -> str:
    """The name of a row's form, from its columns and their types.

    Raises:
        DataError: if it is none of `NAMES`.
    """
    judged = comparisons.form_of(row)
    if judged is not None:
        return judged
    for name, columns in _UNMISTAKABLE:
        if columns <= row.keys():
            return name
    prompt, chosen = row.get("prompt"), row.get("chosen")
    if "rejected" not in row or chosen is None:
        raise DataError(
            f"columns {some(map(str, row), 8)} are no known form of preferences",
            remedy=f"chosen and rejected are expected, in one of the forms {', '.join(NAMES)}",
        )
    if isinstance(prompt, Mapping):
        return "fairlead"
    if prompt is None and isinstance(chosen, str):
        asked = any(isinstance(row.get(name), str) for name in ("instruction", "input"))
        return "distilabel" if asked else "hh" if TRANSCRIPT_TURN.match(chosen) else "implicit"
    if prompt is None:
        return "implicit"
    if isinstance(prompt, str) and isinstance(chosen, str):
        return "standard"
    if isinstance(prompt, str) and isinstance(chosen, list) and len(chosen) > 1:
        return "ultrafeedback" if set(SCORES[0]) <= row.keys() else "implicit"
    return "conversational"


_UNMISTAKABLE = (
    ("argilla", {"fields", "responses"}),
    ("argilla", {"fields", "suggestions"}),
    ("openai", {"input", "preferred_output", "non_preferred_output"}),
    ("alpaca_eval", {"instruction", "output_1", "output_2", "preference"}),
    ("sharegpt", {"conversations", "chosen", "rejected"}),
    ("distilabel", {"chosen_response", "rejected_response"}),
    ("distilabel", {"generations", "ratings"}),
)


def leftovers(row: Row, name: str) -> dict[str, Any]:
    """The columns that the reader `name` does not use, kept as provenance: identities, sources, scores, metadata."""
    read = _READ | _ALSO_READ.get(name, set())
    return {str(key): value for key, value in row.items() if key not in read and value is not None and _is_json(value)}


def _is_json(value: Any) -> bool:
    """Whether a value can be kept as JSON; dates and bytes of a table, and numbers that are none, cannot."""
    try:
        dump_json(value).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True
