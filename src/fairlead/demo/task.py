"""Incident triage: a report in, `severity: … | service: … | summary: …` out. Every byte is a function of the seed.

A report states facts in a reporter's words; it never states the severity, which `severity_of` derives from the facts.
The answers that SFT learns from imitate people in a hurry: they often overlook that an incident is on staging or that a
workaround exists, and now and then they are wrong or in another format.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from fairlead.demo import _phrases as say
from fairlead.files import write_jsonl

LEVELS = ("low", "medium", "high", "critical")
SHINGLE_WORDS = 5
# Fairlead calls two prompts near-duplicates from a Jaccard similarity of 0.8 on; a stricter bound leaves room for
# other ways of splitting words.
MAX_SIMILARITY = 0.6

_OVERLOOKS_STAGING = 0.65
_OVERLOOKS_WORKAROUND = 0.6
_ERRS_AT_RANDOM = 0.05
_WRONG_SERVICE = 0.05
_LOOSE_FORMAT = 0.08
_LOOSE_FORMAT_IN_CORPUS = 0.75


@dataclass(frozen=True, slots=True)
class Incident:
    """What happened.

    Attributes:
        other: a service that the report mentions and that is not at fault; None where it mentions none.
        reach: 0 few users, 1 some, 2 about half, 3 all.
    """

    service: str
    other: str | None
    symptom: str
    cause: str
    reach: int
    staging: bool
    data_loss: bool
    workaround: bool

    @property
    def gold(self) -> dict[str, Any]:
        return {
            "severity": severity_of(self),
            "service": self.service,
            "keywords": [self.symptom, self.cause],
        }


def severity_of(incident: Incident) -> str:
    """Staging is always low; else reach from low to critical, one level up for lost data, one down for a workaround."""
    if incident.staging:
        return LEVELS[0]
    level = incident.reach + incident.data_loss - incident.workaround
    return LEVELS[min(max(level, 0), len(LEVELS) - 1)]


def draw_incident(rng: Random) -> Incident:
    service, other = rng.sample(say.SERVICES, 2)
    return Incident(
        service=service,
        other=other if rng.random() < 0.5 else None,
        symptom=rng.choice(list(say.SYMPTOMS)),
        cause=rng.choice(list(say.CAUSES)),
        reach=rng.randrange(4),
        staging=rng.random() < 0.25,
        data_loss=rng.random() < 0.25,
        workaround=rng.random() < 0.25,
    )


def write_report(incident: Incident, rng: Random) -> str:
    """The incident as a pager alert, a chat message, an e-mail or a log excerpt."""
    return rng.choice((_pager, _chat, _email, _log))(incident, rng)


def _facts(incident: Incident, rng: Random) -> list[str]:
    """The facts as sentences in random order; facts that do not hold are mostly left out."""
    reach = rng.choice(say.REACH[incident.reach])
    facts = [
        rng.choice(("{} affected", "hits {}", "impact: {}", "concerns {}")).format(reach),
        rng.choice(say.CAUSES[incident.cause]),
    ]
    if incident.staging:
        facts.append(rng.choice(say.STAGING))
    elif rng.random() < 0.5:
        facts.append(rng.choice(say.PRODUCTION))
    if incident.data_loss or rng.random() < 0.3:
        facts.append(rng.choice(say.DATA_LOSS if incident.data_loss else say.NO_DATA_LOSS))
    if incident.workaround:
        facts.append(rng.choice(say.WORKAROUND).format(fix=rng.choice(say.FIXES)))
    elif rng.random() < 0.3:
        facts.append(rng.choice(say.NO_WORKAROUND))
    if incident.other:
        facts.append(rng.choice(say.DISTRACTORS).format(other=incident.other))
    rng.shuffle(facts)
    return facts


def _symptom(incident: Incident, rng: Random) -> str:
    return rng.choice(say.SYMPTOMS[incident.symptom])


def _clock(rng: Random) -> str:
    return f"{rng.randrange(24):02}:{rng.randrange(60):02}"


def _pager(incident: Incident, rng: Random) -> str:
    head = rng.choice(("ALERT", "PAGE", "FIRING"))
    return (
        f"{head} {_clock(rng)} {incident.service}: {_symptom(incident, rng)}. " + "; ".join(_facts(incident, rng)) + "."
    )


def _chat(incident: Incident, rng: Random) -> str:
    opening = rng.choice(("hey", "heads up", "anyone on call?", "uh oh", "fyi"))
    name = rng.choice(say.PEOPLE).lower()
    facts = ", ".join(_facts(incident, rng))
    return f"{name}: {opening} - {incident.service} is acting up, {_symptom(incident, rng)}. {facts}"


def _email(incident: Incident, rng: Random) -> str:
    subject = rng.choice(("Problem with {}", "Incident: {}", "{} again", "Please look at {}")).format(incident.service)
    facts = ". ".join(fact[0].upper() + fact[1:] for fact in _facts(incident, rng))
    return f"Subject: {subject}\nHello, {_symptom(incident, rng)}. {facts}. Regards, {rng.choice(say.PEOPLE)}"


def _log(incident: Incident, rng: Random) -> str:
    level = rng.choice(("ERROR", "WARN", "FATAL"))
    lines = [f"{_clock(rng)} {level} [{incident.service}] {_symptom(incident, rng)}"]
    lines += [f"note: {fact}" for fact in _facts(incident, rng)]
    return "\n".join(lines)


def _line(severity: str, incident: Incident, service: str | None = None) -> str:
    return f"severity: {severity} | service: {service or incident.service} | summary: {_summary(incident)}"


def _summary(incident: Incident) -> str:
    return f"{incident.symptom}, {incident.cause}"


def hurried_answer(incident: Incident, rng: Random, *, loose: float = _LOOSE_FORMAT) -> str:
    """The answer of a person in a hurry.

    Args:
        loose: probability of an answer in another format than the required one.
    """
    noticed = replace(
        incident,
        staging=incident.staging and rng.random() >= _OVERLOOKS_STAGING,
        workaround=incident.workaround and rng.random() >= _OVERLOOKS_WORKAROUND,
    )
    severity = rng.choice(LEVELS) if rng.random() < _ERRS_AT_RANDOM else severity_of(noticed)
    service = incident.other if incident.other and rng.random() < _WRONG_SERVICE else incident.service
    if rng.random() >= loose:
        return _line(severity, incident, service)
    form = rng.choice(
        ("[{level}] {service}: {summary}", "{service} - {level} - {summary}", "sev {level}, {service}, {summary}")
    )
    return form.format(level=severity, service=service, summary=_summary(incident))


def write_task(
    folder: Path,
    seed: int,
    *,
    sft: int = 400,
    prompts: int = 2000,
    eval: int = 500,
    corpus: int = 12_000,
    dev: int = 100,
) -> None:
    """Writes sft, prompts, dev, eval and corpus as .jsonl; the others hold no near-duplicate of an eval report.

    Args:
        sft: rows {"prompt", "answer"} with the answers of hurried people.
        prompts: rows {"prompt", "gold"} for preference building.
        eval: rows {"prompt", "gold"}, held out.
        corpus: rows {"prompt", "answer"}, most of the answers in another format, for a base model; no file if 0.
        dev: rows {"prompt", "gold"} for the decision whether to fine-tune.
    """
    rng = Random(f"incident triage {seed}")
    fresh = _fresh_reports(rng)
    held_out = [next(fresh) for _ in range(eval)]
    near = _NearHeldOut([text for _, text in held_out])
    for_training = ((incident, text) for incident, text in fresh if text not in near)
    folder = Path(folder)
    write_jsonl(folder / "eval.jsonl", [{"prompt": text, "gold": incident.gold} for incident, text in held_out])
    write_jsonl(
        folder / "sft.jsonl",
        [{"prompt": t, "answer": hurried_answer(i, rng)} for i, t in (next(for_training) for _ in range(sft))],
    )
    write_jsonl(
        folder / "prompts.jsonl",
        [{"prompt": t, "gold": i.gold} for i, t in (next(for_training) for _ in range(prompts))],
    )
    rows = [
        {"prompt": t, "answer": hurried_answer(i, rng, loose=_LOOSE_FORMAT_IN_CORPUS)}
        for i, t in (next(for_training) for _ in range(corpus))
    ]
    write_jsonl(
        folder / "dev.jsonl",
        [{"prompt": t, "gold": i.gold} for i, t in (next(for_training) for _ in range(dev))],
    )
    if rows:
        write_jsonl(folder / "corpus.jsonl", rows)


def _fresh_reports(rng: Random) -> Iterator[tuple[Incident, str]]:
    """An endless stream of incidents with their reports; no report occurs twice."""
    written: set[str] = set()
    while True:
        incident = draw_incident(rng)
        text = write_report(incident, rng)
        if text not in written:
            written.add(text)
            yield incident, text


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of five words, letter case ignored."""
    words = text.casefold().split()
    return frozenset(tuple(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1)))


class _NearHeldOut:
    """Contains every text whose shingles have a Jaccard similarity of `MAX_SIMILARITY` or more with a held-out text."""

    def __init__(self, texts: list[str]) -> None:
        self._sizes = [len(shingles(text)) for text in texts]
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, text in enumerate(texts):
            for shingle in shingles(text):
                self._holders[shingle].append(number)

    def __contains__(self, text: str) -> bool:
        text_shingles = shingles(text)
        common = Counter(number for shingle in text_shingles for number in self._holders.get(shingle, ()))
        return any(n / (len(text_shingles) + self._sizes[number] - n) >= MAX_SIMILARITY for number, n in common.items())
