"""Checks of split lists alone: ids, groups, labels, class balance. Nothing is decoded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from ..dataset import Sample
from ..prepare.list_counts import Parts, by_part, pairs
from ..storage.words import plural
from ..task import Task
from .findings import Finding, some


def audit_lists(samples: Sequence[Sample], task: Task, group: str | None = None) -> list[Finding]:
    """Return what the lists of one split show.

    Args:
        samples: of all parts; ids may repeat (that is one of the findings).
        task: what their labels are.
        group: what a sample's group is, such as 'speaker'; None where the split names none.
    """
    parts = by_part(samples)
    found = [*_repeats(parts), *_ids(parts), *_labels(parts, task)]
    if group is not None:
        found += [*_ungrouped(parts, group), *_groups(parts, group)]
    return [*found, *_balance(parts, task)]


def _repeats(parts: Parts) -> Iterator[Finding]:
    """Ids that a part lists more than once."""
    for part, samples in parts.items():
        counts = Counter(s.id for s in samples)
        again = [name for name, times in counts.items() if times > 1]
        message = (
            f"{plural(len(again), 'id')} of {part} listed more than once" if again else f"{part} lists each id once"
        )
        yield Finding(
            "repeats", part, "id", len(again), len(counts), "fault" if again else "ok", message, some(again)
        )


def _ids(parts: Parts) -> Iterator[Finding]:
    """Ids that two parts share."""
    for a, b in pairs(parts):
        before, after = {s.id for s in parts[a]}, {s.id for s in parts[b]}
        both = before & after
        message = f"{plural(len(both), 'id')} in both {a} and {b}" if both else f"no id in both {a} and {b}"
        yield Finding("ids", f"{a}+{b}", "id", len(both), len(after), "leak" if both else "ok", message, some(both))


def _labels(parts: Parts, task: Task) -> Iterator[Finding]:
    """Ids with more than one label: within a part, and between two."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for part, samples in parts.items():
        for s in samples:
            seen[part][s.id].add(repr(s.label) if task.label_fault(s.label) else task.text(s.label))
    for part in parts:
        torn = [name for name, labels in seen[part].items() if len(labels) > 1]
        message = f"{plural(len(torn), 'id')} of {part} listed with different labels"
        if torn:
            yield Finding("labels", part, "id", len(torn), len(seen[part]), "fault", message, some(torn))
    for a, b in pairs(parts):
        torn = [name for name in seen[a].keys() & seen[b].keys() if seen[a][name] != seen[b][name]]
        message = f"{plural(len(torn), 'id')} labelled differently in {a} and in {b}"
        if torn:
            yield Finding("labels", f"{a}+{b}", "id", len(torn), len(seen[b]), "fault", message, some(torn))
    if all(len(labels) == 1 for names in seen.values() for labels in names.values()):
        whole: dict[str, set[str]] = defaultdict(set)
        for names in seen.values():
            for name, labels in names.items():
                whole[name] |= labels
        if all(len(labels) == 1 for labels in whole.values()):
            yield Finding("labels", "+".join(parts), "id", 0, len(whole), "ok", "every id has one label")
    listed = [s for samples in parts.values() for s in samples]
    wrong = [(s.id, fault) for s in listed if (fault := task.label_fault(s.label))]
    if wrong:
        ids, of = some(name for name, _ in wrong), task.member or "target"
        message = f"{plural(len(wrong), 'sample')} with a label that {wrong[0][1]}"
        yield Finding("labels", "+".join(parts), of, len(wrong), len(listed), "fault", message, ids)


def _ungrouped(parts: Parts, group: str) -> Iterator[Finding]:
    for part, samples in parts.items():
        bare = [s.id for s in samples if not s.group]
        if bare:
            message = f"{plural(len(bare), 'sample')} of {part} without a {group}"
            yield Finding("ungrouped", part, group, len(bare), len(samples), "note", message, some(bare))


def _groups(parts: Parts, group: str) -> Iterator[Finding]:
    """Groups (speakers, source videos, scenes) that two parts share."""
    for a, b in pairs(parts):
        before, after = ({s.group for s in parts[part]} - {""} for part in (a, b))
        if not before and not after:
            continue
        both = before & after
        some_samples = sum(s.group in both for s in parts[b])
        if not both:
            message = f"no {group} in both {a} and {b}"
        else:
            message = f"{_which(len(both), len(after), group, b)} also in {a}"
            total = plural(len(parts[b]), "sample")
            message += f" (all {total})" if some_samples == len(parts[b]) else f" ({some_samples:,} of {total})"
        level = "leak" if both else "ok"
        yield Finding("groups", f"{a}+{b}", group, len(both), len(after), level, message, some(both))


def _which(shared: int, total: int, group: str, part: str) -> str:
    """Say how many of a part's groups, as the start of a sentence."""
    if total == 1:
        return f"the one {group} of {part} is"
    named = plural(total, group)
    whose = f"all {named}" if shared == total else f"{shared:,} of the {named}"
    return f"{whose} of {part} {'is' if shared == 1 else 'are'}"


def _balance(parts: Parts, task: Task) -> Iterator[Finding]:
    """Samples per class or label: the rarest and the commonest, and those that a part lacks; none of a number."""
    classes, one = task.names, task.member
    for part, samples in parts.items() if one else ():
        counts = Counter(k for s in samples if not task.label_fault(s.label) for k in task.members(s.label))
        per_class = {k: counts.get(k, 0) for k in range(len(classes))}
        least, most = (
            min(per_class, key=lambda k: (per_class[k], k)),
            max(per_class, key=lambda k: (per_class[k], -k)),
        )
        lacking = [classes[k] for k, count in per_class.items() if not count]
        ends = f"{per_class[least]:,} ({classes[least]}) to {per_class[most]:,} ({classes[most]})"
        message = f"{part}: {ends} samples per {one}, the commonest {per_class[most] / len(samples):.1%} of the part"
        if per_class[least] == per_class[most]:
            message = f"{part}: {per_class[most]:,} samples of each {one}"
        yield Finding("balance", part, one, len(classes) - len(lacking), len(classes), "note", message)
        if lacking:
            message = f"{part} has no sample of {plural(len(lacking), one)}"
            yield Finding("balance", part, one, len(lacking), len(classes), "fault", message, some(lacking))
