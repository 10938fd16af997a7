"""How the labs train: the failure modes that the diagnosis must name, and the sizes of the trainings."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fairlead.config.decide import DecideSection
from fairlead.config.monitoring import WatchSettings
from fairlead.config.sampling import SampleSection
from fairlead.config.training import SftSection
from fairlead.documents.diagnosis import FailureMode
from fairlead.records import Preference

SCRAMBLED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}"
    "{% else %}{{ message['content'][::-1] + ' <|end|> #' }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Scale:
    """Sizes and settings of a lab's trainings.

    Attributes:
        healthy: the `dpo` section of a healthy training.
        beta_held: what differs from it where β alone is to hold the policy.
        few: pairs of a training that learns them by heart.
        memorised: what differs from a healthy training in that one.
        watch: the `watch` section of every training.
        well_formed: whether pairs with an answer that misses the format are left out of the table.
        project: sections of the project's `fairlead.yaml`, up to the pairs, in the place of the demo's.
    """

    healthy: Mapping[str, Any]
    beta_held: Mapping[str, Any]
    pairs: int
    validation: int
    few: int
    memorised: Mapping[str, Any]
    watch: WatchSettings
    well_formed: bool
    project: Mapping[str, Any] = field(default_factory=dict)


SMALL = Scale(
    healthy={
        "beta": 0.1,
        "loss_type": ["sigmoid", "sft"],  # without the SFT term samples score less than those of the SFT model
        "learning_rate": 1e-3,
        "epochs": 4,
        "batch_size": 8,
        "max_length": 320,
        "log_every": 1,
        "eval_every": 18,
        "save_every": 1000,
    },
    beta_held={"loss_type": ["sigmoid"]},  # the SFT term would hold the policy in β's place
    pairs=216,
    validation=64,
    few=60,
    memorised={"epochs": 20},
    watch=WatchSettings(),
    well_formed=True,  # in nine of ten of the others the longer answer is the better one, a failure mode of its own
)
PRETRAINED = Scale(
    healthy={
        "beta": 0.1,
        "learning_rate": 2e-4,
        "epochs": 1,
        "batch_size": 4,  # more steps out of few pairs
        "max_length": 320,
        "log_every": 1,
        "eval_every": 6,
        "save_every": 1000,
    },
    beta_held={},
    pairs=64,
    validation=24,
    few=6,
    memorised={"epochs": 20, "eval_every": 10},
    watch=WatchSettings(samples=12),
    well_formed=False,  # in half of all pairs the longer answer is the better one
    project={
        # Whether prompting is enough is not the question here, and takes minutes to answer.
        "decide": DecideSection(waive="the lab is about training"),
        "sft": SftSection(epochs=1, learning_rate=5e-4, batch_size=8, max_length=320),
        "sample": SampleSection(temperatures=[1.0], per_temperature=4, max_new_tokens=48, batch_size=64),
    },
)


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        own: the rule that is to name it, None for a healthy training.
        settings: what differs from a healthy `dpo` section.
        change: what is done to the pairs, training and validation alike.
        pairs: of how many the training learns, None for those of the scale.
        template: chat template that the training uses, None for the model's own.
        well_formed: whether the pairs are only those whose answers both have the wanted form.
    """

    name: str
    own: FailureMode | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[list[Preference], random.Random], list[Preference]] = lambda pairs, _rng: pairs
    pairs: int | None = None
    template: str | None = None
    well_formed: bool = True


def flipped(pairs: list[Preference], rng: random.Random, share: float = 0.4) -> list[Preference]:
    """A share of the labels the wrong way round."""
    wrong = set(rng.sample(range(len(pairs)), round(share * len(pairs))))
    return [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if n in wrong else pair
        for n, pair in enumerate(pairs)
    ]


def longer_chosen(pairs: list[Preference], rng: random.Random) -> list[Preference]:
    """Length is all that is preferred: both answers are those of the model, one of them goes on."""
    more = (" please look at the report", " and keep watching it", " then tell the team", " as said above")
    made = []
    for pair in pairs:
        text = rng.choice((pair.chosen, pair.rejected))
        made.append(replace(pair, chosen=text + "".join(rng.sample(more, 2)), rejected=text))
    return made


def cases_of(scale: Scale) -> tuple[Case, ...]:
    """A healthy training, and one of every failure mode that the lab can make."""
    return (
        Case("healthy"),
        Case("lr x100", "kl_spike", {"learning_rate": 100 * scale.healthy["learning_rate"]}),
        Case("beta 1.0", "too_conservative", {"beta": 1.0}),
        Case("beta 0.001", "too_aggressive", {"beta": 0.001, **scale.beta_held}),
        Case(f"20 epochs, {scale.few} pairs", "overfitting", scale.memorised, pairs=scale.few),
        Case("40 % flipped", "label_noise", change=flipped),
        Case("longer chosen", "length_exploitation", change=longer_chosen),
        Case("scrambled template", "formatting", template=SCRAMBLED),
    )


# The loss that knows the noise has no SFT term.
NOISY = (
    Case("216 well-formed pairs, 4 epochs", settings={"loss_type": ["sigmoid"]}, change=flipped),
    Case(
        "640 pairs, 2 epochs",
        settings={"loss_type": ["sigmoid"], "learning_rate": 5e-4, "epochs": 2},
        change=flipped,
        pairs=640,
        well_formed=False,
    ),
)
