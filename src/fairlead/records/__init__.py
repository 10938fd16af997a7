"""The types that all rooms share: prompt, completion, verdict, preference, score."""

from fairlead.records.completions import Completion, PromptVariant, Sampling
from fairlead.records.intervals import Interval
from fairlead.records.judgements import Answer, Comparison, Flag, ModelPair, Score, ScoreState, Verdict, VerdictState
from fairlead.records.preferences import Draw, DropReason, Imported, Preference, Provenance, Sampled
from fairlead.records.prompts import SOURCE, Example, Message, Prompt, Role, content_id
from fairlead.records.serialization import (
    Record,
    completion_from_json,
    example_from_json,
    message_dicts,
    preference_from_json,
    prompt_from_json,
    score_from_json,
    to_json,
    verdict_from_json,
)

__all__ = [
    "SOURCE",
    "Answer",
    "Comparison",
    "Completion",
    "Draw",
    "DropReason",
    "Example",
    "Flag",
    "Imported",
    "Interval",
    "Message",
    "ModelPair",
    "Preference",
    "Prompt",
    "PromptVariant",
    "Provenance",
    "Record",
    "Role",
    "Sampled",
    "Sampling",
    "Score",
    "ScoreState",
    "Verdict",
    "VerdictState",
    "completion_from_json",
    "content_id",
    "example_from_json",
    "message_dicts",
    "preference_from_json",
    "prompt_from_json",
    "score_from_json",
    "to_json",
    "verdict_from_json",
]
