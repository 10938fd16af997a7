"""Train and validation by prompt, with everything that belongs together on one side."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.records import Prompt, content_id
from fairlead.text.near_duplicates import clusters
from fairlead.text.words import Groups, asked


def split_by_prompt(
    prompts: Sequence[Prompt], fraction: float, *, seed: int, threshold: float
) -> tuple[list[int], list[int]]:
    """Indices of train and of validation, each ascending.

    Near-duplicate prompts and prompts of one `cluster` stay together. The groups are drawn in an order that comes from
    their content and the seed, so the order of the rows does not matter.

    Args:
        fraction: share of the prompts that validation should have; groups that would exceed it stay in train.
            With a fraction above 0 and at least two groups, each side has at least one group.
        threshold: similarity from which two prompts are near-duplicates, as `near_duplicates.overlaps` takes it.
    """
    if fraction <= 0:
        return list(range(len(prompts))), []
    return split_by_count(prompts, round(fraction * len(prompts)), seed=seed, threshold=threshold)


def split_by_count(
    prompts: Sequence[Prompt], count: int, *, seed: int, threshold: float
) -> tuple[list[int], list[int]]:
    """Indices of train and of a part that should have `count` of the prompts; as `split_by_prompt` otherwise."""
    everything = list(range(len(prompts)))
    groups = _groups(prompts, threshold)
    if len(groups) < 2:
        return everything, []
    drawn = sorted(groups, key=lambda group: content_id(seed, min(prompts[index].id for index in group)))
    chosen: list[list[int]] = []
    for group in drawn:
        if len(chosen) < len(groups) - 1 and sum(map(len, chosen)) + len(group) <= count:
            chosen.append(group)
    validation = sorted(index for group in chosen or [min(drawn, key=len)] for index in group)
    held = set(validation)
    return [index for index in everything if index not in held], validation


def _groups(prompts: Sequence[Prompt], threshold: float) -> list[list[int]]:
    """Indices of the prompts that must not be parted, group by group."""
    groups = Groups(len(prompts))
    first_of_text: dict[int, int] = {}
    first_of_cluster: dict[str, int] = {}
    for index, number in enumerate(clusters([asked(prompt) for prompt in prompts], threshold)):
        groups.join(first_of_text.setdefault(number, index), index)
        if prompts[index].cluster:
            groups.join(first_of_cluster.setdefault(prompts[index].cluster, index), index)
    members: dict[int, list[int]] = {}
    for index, number in enumerate(groups.numbers()):
        members.setdefault(number, []).append(index)
    return list(members.values())
