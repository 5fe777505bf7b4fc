"""Parts that the tests of the SLURM executor share: requests, submissions, a SLURM whose answers are given."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from snakemake_executor_plugin_submitit import cluster, commands, node, watch
from snakemake_executor_plugin_submitit.batch import Batch, Member
from snakemake_executor_plugin_submitit.jobs import Live
from snakemake_executor_plugin_submitit.resources import request_of
from snakemake_executor_plugin_submitit.settings import ExecutorSettings


def request(settings=None, **resources):
    """Return the request of a rule with these resources."""
    job = SimpleNamespace(name="train", threads=1, resources=resources)
    return request_of(job, settings or ExecutorSettings())


def live(folder, tasks=2, per_task=1, **resources):
    """Return the jobs of a submission that SLURM calls 7_0, 7_1, ..."""
    members = [Member(n, f"key{n}", n // per_task) for n in range(tasks * per_task)]
    made = Batch.create(folder, "train", members, gpus=1, minutes=60, mem_mb=1000)
    made.submitted([f"7_{k}" for k in range(tasks)])
    jobs = []
    for member in members:
        job = SimpleNamespace(name="train", jobid=member.number, is_group=lambda: False)
        one = Live(job, request(mem_mb=1000, **resources), member.key, "true", "cd x && true", "")
        one.place(made, member.number, member.task)
        jobs.append(one)
    return jobs


OFFER = cluster.Offer(
    {
        "gpu": cluster.Partition(
            "gpu", 600.0, True, [cluster.Kind(8, 32000, {"a100": 4}, frozenset({"fast", "SKU:A100"}))]
        ),
        "cpu": cluster.Partition("cpu", 0.0, True, [cluster.Kind(64, 8000, {}, frozenset())]),
    },
    "gpu",
    1001,
    10000,
    False,
)


class Answers(commands.Slurm):
    """A SLURM whose answers are given."""

    def __init__(self, **rows):
        super().__init__()
        self.rows = {job.replace("j", "7_"): commands.Row(*row) for job, row in rows.items()}
        self.gone = {}
        self.unlisted = {}
        self.cancelled = []

    def queue(self):
        return self.rows

    def ends(self, jobs):
        return {job: self.gone[job] for job in jobs if job in self.gone}

    def look_up(self, wanted):
        return {job: self.unlisted[job] for job in wanted if job in self.unlisted}

    def try_on(self, node, script, flags):
        return ""

    def cancel(self, name, jobs=None):
        self.cancelled += [name] if jobs is None else sorted(jobs)
        return ""

    def meant_for(self, lives):
        """Give the rows that have none the names of the jobs' submissions."""
        for one in lives:
            for rows in (self.rows, self.unlisted):
                if one.id in rows and not rows[one.id].name:
                    rows[one.id] = replace(rows[one.id], name=one.batch.name)
        return self


def look(lives, slurm, times=2, latency=0.0, **settings):
    """Return what a watch says of jobs: those that went well, failures with their text, those made again."""
    output = SimpleNamespace(well=[], ill=[], again=[], over=[], lines=[])
    found = watch.Watch(
        ExecutorSettings(squeue_interval=0.0, **settings),
        slurm,
        latency,
        succeed=output.well.append,
        fail=lambda one, text: output.ill.append(text),
        again=output.again.append,
        over=output.over.append,
        bigger=lambda one: True,
        log=output.lines.append,
    )
    found.add(lives)
    slurm.meant_for(lives)
    for _ in range(times):
        found.sweep()
        for one in found.all():
            one.gone = one.gone and one.gone - 60
            one.stuck = one.stuck and one.stuck - 100
            one.pulse = one.pulse and (one.pulse[0], one.pulse[1] - 100)
    output.retries = found.retries
    return output


def end(one, code, **facts):
    """Write a status file as the node does."""
    node.write_json(
        one.batch.folder / "status" / f"{one.number}.json", {"code": code, "node": "n1", "seconds": 3} | facts
    )
