"""Every reason for pending that the SLURM which is installed here can give is known to the executor."""

from __future__ import annotations

import re
from pathlib import Path

from snakemake_executor_plugin_submitit import reasons

#: Codes that pass by themselves, or that only jobs which have run can have.
PASSING = re.compile(
    r"BeginTime|Association(Job|Resource)Limit|QOS(Job|Resource)Limit|SchedDefer|NonZeroExitCode|Block(MaxError|FreeAction)|"
    r"Cleaning|JobArrayTaskLimit|BurstBuffer\w+|FedJobLock|OutOfMemory|"
    r"(Assoc|QOS)Grp(?!\w*(?<!Run)Minutes|WallLimit)\w+|(Assoc|QOS)Max(Jobs|SubmitJob)\w+|"
    r"QOSMax\w+PerUser(Limit)?|Max\w+PerAccount"
)


def test_every_code_of_this_slurm_is_known(cluster):
    library = next(Path("/usr/lib").rglob("libslurmfull.so")).read_bytes()
    block = library[library.index(b"PartitionNodeLimit\0") : library.index(b"QOSMinBilling\0") + 14]
    codes = {word.decode() for word in block.split(b"\0") if re.fullmatch(rb"[A-Z]\w{3,}", word)}
    assert len(codes) > 150
    unknown = {code for code in codes if not reasons.kind(code) and not PASSING.fullmatch(code)}
    both = {code for code in codes if reasons.kind(code) and PASSING.fullmatch(code)}
    assert unknown == both == set()
