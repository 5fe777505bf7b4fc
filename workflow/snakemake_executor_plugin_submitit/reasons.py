"""Why a job is pending: which of SLURM's reasons pass, which somebody has to cure, and which waiting never cures.

SLURM gives a reason as a code (`QOSNotAllowed`) or, where it knows more, as a sentence (`Job's QOS not permitted to
use this partition (gpu allows fast not normal)`), in some answers with underscores for blanks.
"""

from __future__ import annotations

import re

#: Codes, whole: what was asked for is never given, whoever else runs. Limits of a user, an account or a group pass.
HOPELESS = re.compile(
    r"BadConstraints|Partition(Config|NodeLimit|TimeLimit)|Invalid(Account|QOS)|(QOS|Account)NotAllowed|"
    r"DependencyNeverSatisfied|ReservationDeleted|(Association|QOS)TimeLimit|DeadLine|AccountingPolicy|"
    r"(Assoc|QOS)Max\w+Per(Job|Node)(Limit)?|QOSMin\w+|MaxMemPerLimit"
)
#: The same as sentences, anywhere in them.
HOPELESS_WORDS = re.compile(
    r"not permitted|can't use this partition|can ?not be satisfied|licenses are invalid|node lists overlap|"
    r"higher than configured|never satisfied|not allowed to",
    re.IGNORECASE,
)
#: SLURM waits for somebody who releases or cancels the job.
HELD = re.compile(r"JobHeld|JobHoldMaxRequeue|REQUEUE_HOLD|SPECIAL_EXIT|held state")
#: Held by SLURM, because a node could not start it.
UNLAUNCHED = re.compile(r"launch failed")
#: Worth a line: an administrator, a node that comes back, or a new month's budget may cure them.
WORRYING = re.compile(
    r"ReqNodeNotAvail|DOWN|NodeDown|FrontEndDown|Partition(Down|Inactive)|SystemFailure|JobLaunchFailure|"
    r"Prolog error|Power(NotAvail|Reserved)|QOSUsageThreshold|"
    r"(Assoc|QOS)Grp\w*(?<!Run)Minutes|(Assoc|QOS)GrpWallLimit"
)
#: What to do: the first that fits counts.
FIXES = (
    (r"account", "set submitit-account to one that the partition takes"),
    (r"QOS not|QOSNotAllowed|InvalidQOS", "set submitit-qos to one that the partition takes"),
    (r"time ?limit|Wall|Minutes|DeadLine", "lower runtime in set-resources"),
    (r"Mem", "lower mem_mb in set-resources"),
    (r"GRES", "lower submitit-gpus, or gpu in set-resources"),
    (r"QOSMin", "that qos takes larger jobs only: set submitit-qos to another"),
    (r"cpu", "lower cpus_per_task in set-resources, or runs_per_gpu"),
    (r"BadConstraints|feature", "correct submitit-constraint"),
    (r"reservation", "correct --reservation in slurm_extra"),
    (r"licenses", "correct --licenses in slurm_extra"),
)


def kind(reason: str) -> str:
    """Return 'hopeless', 'unlaunched', 'held', 'worrying', or '' where there is nothing to do but wait."""
    text = reason.replace("_", " ")
    if HOPELESS.fullmatch(reason.strip()) or HOPELESS_WORDS.search(text):
        return "hopeless"
    if UNLAUNCHED.search(text):
        return "unlaunched"
    if HELD.search(reason) or HELD.search(text):
        return "held"
    return "worrying" if WORRYING.search(text) else ""


def fix(reason: str) -> str:
    """Return what to do about a reason that waiting does not cure."""
    text = reason.replace("_", " ")
    for pattern, words in FIXES:
        if re.search(pattern, text, re.IGNORECASE):
            return words
    return "lower what set-resources asks for, or choose another partition"
