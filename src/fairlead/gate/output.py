"""The gate's record for people and for CI: Markdown, and JUnit XML with one test case for each criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from fairlead.config.release import BOUNDS
from fairlead.escape import code_span, markdown


def demanded(criterion: Mapping[str, Any]) -> str:
    """The bounds of a judged criterion, as words."""
    names = (*BOUNDS, "not_worse_by")
    return ", ".join(f"{name.replace('_', ' ')} {criterion[name]:g}" for name in names if name in criterion)


def criteria_markdown(criteria: Sequence[Mapping[str, Any]]) -> str:
    if not criteria:
        return "No criterion concerns it."
    lines = ["| Figure | Demanded | Found | Status |", "|---|---|---|---|"]
    for criterion in criteria:
        reason = f" ({markdown(criterion['reason'])})" if criterion["reason"] else ""
        value = criterion["value"]
        found = "—" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        lines.append(
            f"| {markdown(criterion['figure'])} | {demanded(criterion)} | {found} | {criterion['status']}{reason} |"
        )
    return "\n".join(lines)


def waiver(reason: str | None) -> str:
    """What every page says of a project that trains without a decision; nothing where there is one."""
    return "" if reason is None else f"**The decision whether to fine-tune was waived:** {markdown(reason)}"


def watch_actions(dpo: Mapping[str, Any]) -> str:
    """What the watch did to the training, from the figures of the stage; "" where it only looked on."""
    done = []
    if dpo.get("stopped_on"):
        done.append(f"stopped at step {dpo['steps']} on {dpo['stopped_on'].replace('_', ' ')}")
    if dpo.get("kept_step") is not None:
        kl = "KL not measured" if dpo["kept_kl"] is None else f"KL {dpo['kept_kl']:.3g} nats per answer"
        done.append(f"kept step {dpo['kept_step']}, validation gap {dpo['kept_gap']:.3g}, {kl}")
    return "; ".join(done)


def gate_markdown(record: Mapping[str, Any]) -> str:
    """The record as a page: advice, the criteria of every candidate, and what was judged."""
    parts = [
        f"# Gate: {record['status']}",
        f"Advice: **{record['advice']}**. {record['prompts']} held-out prompts, "
        f"judge {code_span(str(record['judge']))}.",
    ]
    if waived := waiver(record.get("waived")):
        parts.append(waived)
    for name, candidate in record["candidates"].items():
        parts.append(f"## {name}: {candidate['status']}\n\n{criteria_markdown(candidate['criteria'])}")
    judged = "\n".join(f"| {name} | `{digest}` |" for name, digest in record["judged"].items())
    parts.append(f"## What was judged\n\n| Artifact | Hash |\n|---|---|\n{judged}")
    return "\n\n".join(parts) + "\n"


def junit(record: Mapping[str, Any]) -> str:
    """JUnit XML: a suite for each candidate, a case for each criterion.

    A criterion that fails is a `failure`; one without enough evidence is an `error`, because CI must not take it for
    passed. The suites of candidates other than DPO, which do not decide, are marked skipped where they do not pass.
    """
    root = ElementTree.Element("testsuites", name="fairlead gate")
    for name, candidate in record["candidates"].items():
        decides = name == "dpo"
        suite = ElementTree.SubElement(root, "testsuite", name=name)
        counts = {"failure": 0, "error": 0, "skipped": 0}
        for criterion in candidate["criteria"]:
            title = f"{criterion['figure']} {demanded(criterion)}"
            case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{name}", name=title)
            if criterion["status"] == "passed":
                continue
            kind = {"failed": "failure", "insufficient": "error"}[criterion["status"]] if decides else "skipped"
            counts[kind] += 1
            message = criterion["reason"] or f"found {criterion['value']}"
            ElementTree.SubElement(case, kind, message=message)
        suite.set("tests", str(len(candidate["criteria"])))
        for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(attribute, str(counts[kind]))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
