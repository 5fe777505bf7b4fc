"""Where Snakemake and the parts of this package meet."""

import asyncio
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any

from snakemake.shell import shell
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from . import commands
from .adopt import Orphans
from .batch import Batch, key_of, open_root
from .cluster import complaint
from .jobs import Live
from .local import Local, local_offer
from .messages import GONE, count
from .resources import request_of
from .script import commands_of, no_pattern, prefix_of
from .settings import as_written
from .submit import Submitter
from .view import Books, View, lines
from .watch import Watch


class Executor(RemoteExecutor):
    """Runs a workflow's jobs as SLURM jobs; see docs/slurm.md."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self.elsewhere = commands.elsewhere()
        self.defaults = commands.drop_inherited()
        self.ready = False  # the base class starts the status thread before __post_init__ has made the parts
        super().__init__(workflow, logger)

    def __post_init__(self) -> None:
        s = self.settings = self.workflow.executor_settings
        as_written(s)
        if s.cluster not in ("slurm", "local"):
            raise WorkflowError(f"submitit-cluster is {s.cluster!r}; it is 'slurm' or 'local'")
        if self.elsewhere:
            raise WorkflowError(f"{self.elsewhere}; unset it, and start where that cluster is at home")
        for name, value in self.defaults.items():
            setattr(s, name, getattr(s, name) or value)
        self.slurm = commands.Slurm() if s.cluster == "slurm" else Local()
        missing = commands.missing() if s.cluster == "slurm" else []
        if missing:
            raise WorkflowError(
                f"SLURM's commands are not here ({', '.join(missing)}): start this on the cluster's login node, or "
                "run the workflow on this machine with: snakemake --cores all results/all_tables.csv"
            )
        commands_of(s.setup or "")  # said before anything is submitted
        self.prefix = prefix_of(s.prefix)
        self.root = _open(s.folder)
        if s.cluster == "slurm":
            no_pattern(self.root)
        self.log = self.logger.info
        self.orphans = Orphans(self.root, self.slurm, s, self.log)
        self.books = Books()
        self.view: View | None = None
        self.closing: list[Batch] = []
        self.parked: dict[int, Live] = {}  # over, and not yet taken off Snakemake's list of active jobs
        self.watch = Watch(
            s,
            self.slurm,
            float(self.workflow.execution_settings.latency_wait),
            succeed=self._succeeded,
            fail=self._failed,
            again=lambda live: self.submitter.put([live]),
            over=self.closing.append,
            bigger=self._bigger,
            log=self.log,
        )
        self.submitter = Submitter(
            s,
            self.slurm,
            self.root,
            accepted=self._accepted,
            refuse=self._refused,
            adopt=self._adopt,
            log=self.log,
            crashed=self._crashed,
            doubtful=self.orphans.doubtful,
            ours=self.watch.all,
        )
        if s.cluster == "local":
            self.submitter.offer = local_offer()
        self.next_seconds_between_status_checks = s.poll
        self.ready = True

    # ---- from Snakemake to SLURM -----------------------------------------------------------------------------
    def run_job(self, job: Any) -> None:
        """Take one job."""
        self.run_jobs([job])

    def run_jobs(self, jobs: list[Any]) -> None:
        """Take jobs that became ready together; the rest happens in other threads."""
        if self.view is None:
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGTERM, _like_ctrl_c)  # Snakemake would wait for all running jobs
            self.view = View(self.logger, self.log)
        lives = []
        for job in jobs:
            self.run_job_pre(job)
            try:
                lives.append(self._live(job))
            except WorkflowError as error:
                self.books.refuse(job.name)
                self.report_job_error(SubmittedJobInfo(job), msg=f"not submitted: {error}\n        ")
        if lives:
            self.submitter.put(lives)

    def _live(self, job: Any) -> Live:
        shell = None if job.is_group() else job.shellcmd
        outputs = sorted(str(path) for path in job.output)
        return Live(
            job=job,
            request=request_of(job, self.settings),
            key=key_of([job.name, *outputs, shell or ""]),
            command=self._command(job),
            by_hand=f"cd {shlex.quote(str(Path.cwd()))} && {self._by_hand((shell or self._again(outputs)).strip())}",
            log=str(next(iter(job.log), "")) if not job.is_group() else "",
            before=self._before(job),
        )

    def _by_hand(self, command: str) -> str:
        return shlex.join([*self.prefix, "bash", "-c", command]) if self.prefix else command

    def _again(self, outputs: list[str]) -> str:
        return f"snakemake --cores 1 {shlex.join(outputs[:1])}"

    def _command(self, job: Any) -> str:
        """Return what runs on the node: the rule's own command, or Snakemake where only that will do."""
        return self.format_job_exec(job) if self._by_snakemake(job) else str(job.shellcmd)

    def _by_snakemake(self, job: Any) -> bool:
        return bool(self.settings.reexec) or not is_plain_shell(job)

    def _before(self, job: Any) -> str:
        """Return what Snakemake itself does before it starts a job: folders are made, outputs removed."""
        if self._by_snakemake(job):
            return ""
        outputs, logs = [str(path) for path in job.output], [str(path) for path in job.log]
        folders = sorted({str(Path(path).parent) for path in (*outputs, *logs)})
        before = f"mkdir -p -- {shlex.join(folders)}\n" if folders else ""
        before += f"rm -rf -- {shlex.join(outputs)}\n" if outputs else ""
        return before

    def additional_general_args(self) -> str:
        """Return a string, although the interface's documentation asks for a list: a list is refused."""
        return "--quiet progress rules host"

    def get_python_executable(self) -> str:
        """Return this very Python."""
        return shlex.quote(sys.executable)

    # ---- what the submitting thread tells --------------------------------------------------------------------
    def _adopt(self, lives: list[Live]) -> list[Live] | None:
        found = self.orphans.adopt(lives)
        if found is None:
            return None
        if found[0]:
            self._accepted(found[0])
        return found[1]

    def _accepted(self, lives: list[Live]) -> None:
        for live in lives:
            if live.info is None:
                live.info = SubmittedJobInfo(live.job, external_jobid=live.id, aux={"live": live})
                self.report_job_submission(live.info)
        self.watch.add(lives)

    def _refused(self, live: Live, why: str) -> None:
        if live.info is None:
            self.books.refuse(live.job.name)
        else:  # it had been submitted before
            self.books.end(live, well=False)
        info = live.info or SubmittedJobInfo(live.job)
        self.parked[id(live)] = live
        self.report_job_error(info, msg=f"not submitted: {why}\n        ")

    def _crashed(self, error: Exception) -> None:
        self.workflow.scheduler.executor_error_callback(error)

    # ---- what the watch tells --------------------------------------------------------------------------------
    def _succeeded(self, live: Live) -> None:
        self._over(live, well=True)
        self.report_job_success(live.info)

    def _failed(self, live: Live, text: str) -> None:
        self._over(live, well=False)
        logs = [str(p) for p in live.batch.logs(live.number, live.task)] if live.batch is not None else []
        self.report_job_error(live.info, msg=text, aux_logs=[] if live.log and Path(live.log).exists() else logs)

    def _over(self, live: Live, well: bool) -> None:
        self.parked[id(live)] = live
        self.books.end(live, well)

    def _close(self, now: bool = False) -> None:
        """Enter the batches that are over into the books, and remove those that went well."""
        for batch in list(self.closing):
            if now or batch.failures or batch.left():
                self.closing.remove(batch)
                self.books.close(batch)
                if not batch.failures and batch.left():
                    batch.remove()

    def _bigger(self, live: Live) -> bool:
        offer = self.submitter.offer
        twice = live.asked.more_memory(2)
        return offer is not None and bool(twice.memory_mb) and not complaint(twice, 1, offer)

    # ---- the status thread -----------------------------------------------------------------------------------
    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncGenerator[Any, None]:
        """Look at everything once; yield the jobs that are not over."""
        while not self.ready:
            await asyncio.sleep(0.05)
        await asyncio.get_running_loop().run_in_executor(None, self._look)
        for info in active_jobs:
            if self.parked.pop(id(info.aux["live"]), None) is None:
                yield info

    def _look(self) -> None:
        self.watch.sweep()
        self._close()
        if self.view is None or self.settings.no_view:
            return
        lives = self.watch.all()
        begun = {id(live) for live in lives if live.batch is not None and self._begun(live)}
        self.view.show(lines(self.books, lives, self.submitter.waiting(), self.watch.rows, begun))

    def _begun(self, live: Live) -> bool:
        row = live.row(self.watch.rows)
        return row is not None and row.state == "RUNNING"

    # ---- the end ---------------------------------------------------------------------------------------------
    def cancel_jobs(self, active_jobs: list[Any]) -> None:
        """Cancel everything that was submitted. `active_jobs` is empty while a status check holds them."""
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # to the end: in Python's last steps it prints a traceback
        self._cancel_all()

    def _cancel_all(self) -> None:
        lives = self.watch.all()
        if lives:
            self.log(f"submitit: cancelling {count(len(lives), 'job')}, wait")
        self.submitter.stop(20.0)
        lives = self.watch.all()
        batches = {id(live.batch): live.batch for live in lives if live.batch is not None}.values()
        for batch in batches:
            with contextlib.suppress(OSError):
                (batch.folder / "cancelled").touch()  # tells the node that no requeue will follow
        names = {batch.name for batch in batches}
        error = self._cancel_until(names)
        if error:
            self.logger.error(f"submitit: not cancelled ({error}); type: {_scancel(names)}")
            return
        for batch in self.submitter.doubtful:
            if not self.slurm.cancel(batch.name):
                batch.remove()
        for live in lives:
            self.watch.settle(live, well=True)
        allocations = len({live.id for live in lives})
        self.log(f"submitit: cancelled {count(len(lives), 'job')} in {count(allocations, 'allocation')}")

    def _cancel_until(self, names: set[str]) -> str:
        """Cancel by name, since ids are used again; where the controller does not answer, try for half a minute."""
        until, error = time.monotonic() + 30.0, ""
        for name in sorted(names):
            while (error := self.slurm.cancel(name)) and not GONE.search(error):
                if time.monotonic() > until:
                    return error
                time.sleep(2.0)
        return ""

    def shutdown(self) -> None:
        """Say what it took, and end."""
        self.submitter.stop(5.0)
        super().shutdown()
        until = time.monotonic() + 3.0
        while any(not batch.failures and not batch.left() for batch in self.closing) and time.monotonic() < until:
            time.sleep(0.1)
        self._close(now=True)
        if self.view is not None:
            self.view.close()
            self.books.batches = self.submitter.batches
            self.log(self.books.summary(self.watch.retries, self.slurm.calls))
        left = self.orphans.left()
        if left:
            self.log(f"submitit: jobs of an earlier start go on and belong to nothing here: {_scancel(left)}")


def _scancel(names: Iterable[str]) -> str:
    """Return what a person types: by name, since what is typed later might meet an id that is another job's."""
    return "; ".join(f"scancel --name={name}" for name in sorted(names))


def _open(folder: str) -> Path:
    """Return the opened folder of job files; who can't write there is told."""
    try:
        return open_root(Path(folder))
    except OSError as error:
        raise WorkflowError(
            f"the folder {folder} can't be used ({error.strerror}): name another in submitit-folder"
        ) from None


def _like_ctrl_c(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def is_plain_shell(job: Any) -> bool:
    """Return whether a job's command can be run as it is, without Snakemake around it."""
    if job.is_group() or not job.is_shell:
        return False
    own_shell = job.resources.get("shell_exec") or Path(shell.get_executable() or "bash").name != "bash"
    if own_shell or shell._process_prefix is not None or shell._process_suffix:
        return False  # what a Snakefile sets for its commands is Snakemake's to apply
    special = (job.shadow_dir, job.benchmark, job.conda_env, job.container_img_url, job.env_modules)
    return not any(special)
