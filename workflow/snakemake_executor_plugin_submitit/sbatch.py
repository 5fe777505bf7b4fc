"""submitit's SLURM executor as it is used here: one process per allocation, and no flag that nobody asked for."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedSubmissionError, JobPaths

from . import node
from .commands import job_in

#: One process, whatever the allocation would hold: without it srun fills whole nodes and the threads of whole cores.
SRUN = ("--ntasks=1", "--nodes=1")


class Sbatch(SlurmExecutor):
    """Writes the batch script and calls sbatch.

    Args:
        folder: of the submission. known: returns the ids of the jobs of a name, None where SLURM does not answer.
        srun: further flags of srun. leave_out: flags of sbatch that are not sent. parameters: those of submitit.
    """

    def __init__(
        self,
        folder: Path,
        known: Callable[[str], list[str] | None],
        srun: Sequence[str] = (),
        leave_out: Sequence[str] = (),
        **parameters: Any,
    ) -> None:
        self.known, self.leave_out = known, leave_out
        # -P: beside node.py lie names that others may import. What submitit appends ends with the folder.
        start = [sys.executable, "-P", "-S", "-u", node.__file__]
        super().__init__(folder, python=shlex.join(start))
        self.update_parameters(stderr_to_stdout=True, wckey=None, srun_args=[*SRUN, *srun], **parameters)

    def send(self, calls: list[tuple[Any, ...]]) -> list[str]:
        """Submit calls as one array, a single one as a plain job; return SLURM's ids.

        Raises:
            submitit's FailedJobError: with sbatch's words.
        """
        with self.batch():
            jobs = [self.submit(*call) for call in calls]
        return [job.job_id for job in jobs]

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        text = super()._make_submission_file_text(command, uid)
        names = "|".join(map(re.escape, self.leave_out)) or "(?!)"
        return re.sub(rf"^#SBATCH --(?:{names})(?:=.*)?\n", "", text, flags=re.MULTILINE)

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        return ["sbatch", "--parsable", str(submission_file_path)]

    def _get_job_id_from_submission_command(self, string: bytes | str) -> str:  # type: ignore[override]
        text = string if isinstance(string, str) else string.decode(errors="replace")
        job = job_in(text, self.parameters["job_name"], self.known)
        if not job:
            raise FailedSubmissionError(f"sbatch said {text.strip()[:200]!r}, which names no job that SLURM knows")
        return job

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
