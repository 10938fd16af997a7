"""The gate's record for people and for CI: Markdown, and JUnit XML with one test case for each criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from fairlead.documents.gate import Candidate, CandidateResult, CriterionResult, GateRecord
from fairlead.escape import code_span, markdown, one_line


def criteria_markdown(criteria: Sequence[CriterionResult]) -> str:
    if not criteria:
        return "No criterion concerns it."
    lines = ["| Figure | Demanded | Found | Status |", "|---|---|---|---|"]
    for result in criteria:
        reason = f" ({markdown(result.reason)})" if result.reason else ""
        cells = (markdown(result.figure), result.demanded, _found(result), f"{result.status}{reason}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _found(result: CriterionResult) -> str:
    value = result.value
    return "—" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def waiver(reason: str | None) -> str:
    """What every page says of a project that trains without a decision; nothing where there is one."""
    return "" if reason is None else f"**The decision whether to fine-tune was waived:** {markdown(reason)}"


def gate_markdown(record: GateRecord) -> str:
    """The record as a page: advice, the criteria of every candidate, and what was judged."""
    parts = [
        f"# Gate: {record.status}",
        f"Advice: **{record.advice}**. {record.prompts} held-out prompts, judge {code_span(str(record.judge))}.",
    ]
    if waived := waiver(record.waived):
        parts.append(waived)
    for name, candidate in record.candidates.items():
        parts.append(f"## {name}: {candidate.status}\n\n{criteria_markdown(candidate.criteria)}")
    judged = "\n".join(f"| {name} | `{digest}` |" for name, digest in record.judged.items())
    parts.append(f"## What was judged\n\n| Artifact | Hash |\n|---|---|\n{judged}")
    return "\n\n".join(parts) + "\n"


def junit(candidates: Mapping[Candidate, CandidateResult]) -> str:
    """JUnit XML: a suite for each candidate, a case for each criterion.

    A criterion that fails is a `failure`; one without enough evidence is an `error`, because CI must not take it for
    passed. The suites of candidates other than DPO, which do not decide, are marked skipped where they do not pass.
    Characters that XML 1.0 does not allow are written as their code point.
    """
    root = ElementTree.Element("testsuites", name="fairlead gate")
    for name, candidate in candidates.items():
        decides = name == "dpo"
        suite = ElementTree.SubElement(root, "testsuite", name=name)
        counts = {"failure": 0, "error": 0, "skipped": 0}
        for result in candidate.criteria:
            title = one_line(f"{result.figure} {result.demanded}")
            case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{name}", name=title)
            if result.status == "passed":
                continue
            kind = {"failed": "failure", "insufficient": "error"}[result.status] if decides else "skipped"
            counts[kind] += 1
            ElementTree.SubElement(case, kind, message=one_line(result.reason or f"found {_found(result)}"))
        suite.set("tests", str(len(candidate.criteria)))
        for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(attribute, str(counts[kind]))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
