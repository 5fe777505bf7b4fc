"""The books of a mini cluster: MariaDB and slurmdbd, so that accounts, limits and sacct mean something."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import mini_config
import mini_processes as processes
from mini_processes import wait_for

if TYPE_CHECKING:
    from mini_cluster import MiniCluster

SACCTMGR = ("sacctmgr", "-Qi")


def start(cluster: MiniCluster) -> None:
    """Start the database and slurmdbd, and make the cluster's one account with root in it."""
    base = cluster.folder / "mysql"
    client = ["mariadb", "--no-defaults", "-u", "root", "-S", f"{base}/sock", "-e"]
    if not processes.find("mariadbd", str(base)):
        _start_database(cluster, base)
        wait_for("mariadb", lambda: cluster.asks([*client, "select 1"]), 60)
    password = _password(cluster.folder)
    users = "".join(
        f"create or replace user slurm@'{place}' identified by '{password}';grant all on slurm.* to slurm@'{place}';"
        for place in ("127.0.0.1", "localhost")
    )
    cluster.run(*client, f"create database if not exists slurm;{users}")
    conf = cluster.folder / "etc" / "slurmdbd.conf"
    conf.write_text(mini_config.slurmdbd_conf(cluster.settings, password), encoding="utf-8")
    conf.chmod(0o600)
    if not processes.find("slurmdbd", f"SLURM_CONF={cluster.settings.config}"):
        cluster.daemon("slurmdbd")
    wait_for("slurmdbd", lambda: cluster.asks(["sacctmgr", "-n", "list", "cluster"]), 60)
    _make_account(cluster)


def stop(cluster: MiniCluster) -> None:
    """End both."""
    processes.end(processes.find("slurmdbd", f"SLURM_CONF={cluster.settings.config}"))
    processes.end(processes.find("mariadbd", f"{cluster.folder}/mysql"), 30)


def _password(folder: Path) -> str:
    secret = folder / "etc" / "db.pass"
    if not secret.exists():
        secret.write_text(secrets.token_hex(12), encoding="utf-8")
        secret.chmod(0o600)
    return secret.read_text(encoding="utf-8")


def _start_database(cluster: MiniCluster, base: Path) -> None:
    log = cluster.folder / "log" / "mariadb.log"
    base.mkdir(exist_ok=True)
    log.touch()
    for path in (base, log):
        shutil.chown(path, "mysql", "mysql")
    if not (base / "mysql").exists():
        cluster.run(
            *("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={base}", f"--tmpdir={base}"),
            *("--skip-test-db", "--auth-root-authentication-method=socket"),
        )
    subprocess.Popen(
        [
            *("mariadbd", "--no-defaults", "--user=mysql", f"--datadir={base}", f"--socket={base}/sock"),
            f"--tmpdir={base}",
            *(f"--pid-file={base}/pid", "--bind-address=127.0.0.1", f"--port={cluster.settings.ports + 2}"),
            *("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", f"--log-error={log}"),
        ],
        env=cluster.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _make_account(cluster: MiniCluster) -> None:
    account = cluster.settings.account
    if "mini" not in cluster.run("sacctmgr", "-n", "list", "cluster", "format=cluster%20"):
        cluster.run(*SACCTMGR, "add", "cluster", "mini", check=False)
    if account not in cluster.run("sacctmgr", "-n", "list", "account", "format=account%30"):
        cluster.run(*SACCTMGR, "add", "qos", "gold", check=False)  # which nobody may use
        cluster.run(*SACCTMGR, "add", "account", account, "description=x", "organization=x", check=False)
        cluster.run(*SACCTMGR, "add", "user", "root", f"account={account}", "wckey=mine", check=False)
        cluster.run(*SACCTMGR, "modify", "user", "root", "set", f"defaultaccount={account}", check=False)
