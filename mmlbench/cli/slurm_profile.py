"""A SLURM profile as Snakemake reads it: by Snakemake's own parser, so units, lists and expressions mean the same."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import ConfigError
from ..study.yaml import read_mapping


@dataclass(frozen=True)
class Asked:
    """What a rule's first job asks for: threads, resources by name, and which of them an expression gives."""

    threads: int
    resources: Mapping[str, Any]
    computed: frozenset[str]


@dataclass(frozen=True)
class Profile:
    """What a profile says.

    Attributes:
        files: that were read. executor, jobs: None where no line says it. settings: of the plug-in, with defaults.
        default_resources: name -> Snakemake's Resource. set_resources, set_threads: the same by rule.
    """

    files: tuple[str, ...]
    executor: str | None
    jobs: int | None
    settings: Any
    default_resources: Mapping[str, Any]
    set_resources: Mapping[str, Mapping[str, Any]]
    set_threads: Mapping[str, Any]

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules that the profile gives resources or threads."""
        return tuple(dict.fromkeys([*self.set_resources, *self.set_threads]))

    def asked(self, rule: str) -> Asked:
        """Return what the first job of a rule asks for, as far as the profile decides it.

        Raises:
            ConfigError: an expression can't be computed.
        """
        found = {**self.default_resources, **self.set_resources.get(rule, {})}
        threads = _value(rule, "threads", self.set_threads[rule], 1) if rule in self.set_threads else 1
        values = {name: _value(rule, name, resource, threads) for name, resource in found.items()}
        computed = frozenset(name for name, resource in found.items() if resource.is_evaluable())
        return Asked(int(threads), values, computed)


def read_profile(name: str) -> Profile:
    """Read the profile that `snakemake --profile NAME` would read in this folder.

    Raises:
        ConfigError: there is none, or Snakemake would refuse it.
    """
    from snakemake import cli
    from snakemake.resources import Resources
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    place = _found(name)
    check(place)
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message), contextlib.redirect_stdout(message):
            _, arguments = cli.parse_args(["--profile", name])
            settings = ExecutorPluginRegistry().get_plugin("submitit").get_settings(arguments)
            importlib.import_module("snakemake_executor_plugin_submitit.settings").as_written(settings)
    except SystemExit:
        why = [line for line in message.getvalue().splitlines() if line.strip()]
        text = re.sub(r"^\S+: error: ", "", why[-1]) if why else "it gives no reason"
        raise ConfigError(f"{place}: Snakemake refuses it: {text}", f"Correct {place}") from None
    except Exception as error:  # of the many that Snakemake and what it calls may raise
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{place}: Snakemake refuses it: {text}", f"Correct {place}") from None
    more = re.findall(r"workflow specific profile (\S+)", message.getvalue())
    default = arguments.default_resources
    return Profile(
        files=(str(place), *more),
        executor=arguments.executor,
        jobs=arguments.jobs if isinstance(arguments.jobs, int) else None,
        settings=settings,
        default_resources=dict((Resources.default("full") if default is None else default).items()),
        set_resources={rule: dict(found.items()) for rule, found in arguments.set_resources.items()},
        set_threads=dict(arguments.set_threads),
    )


def check(place: Path) -> None:
    """Refuse what a YAML parser takes and Snakemake would stumble over.

    Raises:
        ConfigError: the file can't be read, or holds no `key: value` lines.
    """
    read_mapping(place, "Write `key: value` lines, such as slurm/config.yaml of the clone has", as_snakemake=True)


def _found(name: str) -> Path:
    from snakemake.cli import get_profile_dir

    try:
        found = get_profile_dir(name)
    except OSError as error:
        raise ConfigError(f"{name} can't be read ({error.strerror})", "Type this in the clone") from None
    if found is None:
        what = f"there is no profile {name!r} here: no folder of that name with a config.yaml"
        raise ConfigError(what, "Type this in the clone, where the folder slurm lies, or name another profile")
    return Path(os.path.relpath(found[1]) if found[1].is_relative_to(Path.cwd()) else found[1])


def _value(rule: str, name: str, resource: Any, threads: int) -> Any:
    """Return a resource, an expression's value for the first try and inputs that take no space."""
    from snakemake.common.tbdstring import TBDString
    from snakemake.iocontainers import InputFiles, Wildcards

    if not resource.is_evaluable():
        return resource.value
    facts: dict[str, Any] = {
        "input": InputFiles([]),
        "attempt": 1,
        "threads": threads,
        "rulename": rule,
        "async_run": asyncio.run,
    }
    try:
        value = resource.evaluate(Wildcards(), **facts).value
    except Exception as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"{name} of rule {rule}, {resource.raw!r}, can't be computed: {text}") from None
    return None if isinstance(value, TBDString) else value


def with_defaults(settings: Any) -> Any:
    """Return settings in which a user's own SBATCH_PARTITION and so on fill what the profile leaves open."""
    commands = importlib.import_module("snakemake_executor_plugin_submitit.commands")
    given = vars(settings)
    return SimpleNamespace(**given | {k: given[k] or v for k, v in commands.drop_inherited().items()})
