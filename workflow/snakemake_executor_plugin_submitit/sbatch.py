"""submitit's SLURM executor as it is used here: one process per allocation, and no flag that nobody asked for."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import JobPaths

from . import node

#: One process, whatever the allocation would hold: without it srun fills whole nodes and the threads of whole cores.
SRUN = ("--ntasks=1", "--nodes=1")


class Sbatch(SlurmExecutor):
    """Writes the batch script and calls sbatch.

    Args:
        folder: of the submission. srun: further flags of srun. parameters: those of submitit.
    """

    def __init__(self, folder: Path, srun: Sequence[str] = (), **parameters: Any) -> None:
        # -P: beside node.py lie names that others may import. What submitit appends ends with the folder.
        start = [sys.executable, "-P", "-S", "-u", node.__file__]
        super().__init__(folder, python=shlex.join(start))
        self.update_parameters(stderr_to_stdout=True, srun_args=[*SRUN, *srun], **parameters)

    def send(self, calls: list[tuple[Any, ...]]) -> list[str]:
        """Submit calls as one array, a single one as a plain job; return SLURM's ids.

        Raises:
            submitit's FailedJobError: with sbatch's words.
        """
        with self.batch():
            jobs = [self.submit(*call) for call in calls]
        return [job.job_id for job in jobs]

    def _internal_process_submissions(self, delayed_submissions: list[Any]) -> list[Any]:
        """As submitit's own; that one would leave arrays to an executor that is not of this class."""
        if len(delayed_submissions) == 1:
            return super()._internal_process_submissions(delayed_submissions)
        folder = JobPaths.get_first_id_independent_folder(self.folder)
        pickles = [folder / f"{number}.pkl" for number in range(len(delayed_submissions))]
        for delayed, path in zip(delayed_submissions, pickles, strict=True):
            delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
            delayed.dump(path)
        self.parameters["map_count"] = len(pickles)
        first = self._submit_command(self._submitit_command_str)
        jobs = [self.job_class(self.folder, f"{first.job_id}_{task}", tasks=[0]) for task in range(len(pickles))]
        for job, path in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(path, "submitted_pickle")
        return jobs
