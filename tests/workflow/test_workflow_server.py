"""The one command with a run server and without: the same files, and no process that stays."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from clone import TABLES, Clone, study
from served import ends

from mmlbench.system.handover import OFF, VARIABLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="there are run servers on Linux alone"),
]
#: A method that tells which process has made its process; one of its runs may stay until a file is gone.
TELLING = '''
import os
import time
from pathlib import Path

from mmlbench.methods.joint import Joint
from mmlbench.registry import register


@register
class Telling(Joint):
    """Joint training."""

    def before_epoch(self, context):
        super().before_epoch(context)
        command = Path(f"/proc/{os.getppid()}/cmdline").read_text().split(chr(0))
        told = Path("told", f"{os.getpid()}.part")
        told.write_text(f"{os.getppid()} {'mmlbench.cli.server' in command}")
        told.rename(told.with_suffix(""))
        while Path("stay").exists():
            time.sleep(0.01)
'''


class Telling(Clone):
    """A clone whose study has three runs of that method."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "mine").mkdir()
        (folder / "mine" / "telling.py").write_text(TELLING, encoding="utf-8")
        config = study([{"method": "telling", "seeds": [0, 1, 2]}])
        self.configure(config | {"plugins": [*config["plugins"], "mine"], "baseline": "telling"})
        self.clear()

    def clear(self) -> None:
        """Remove what was made."""
        for name in ("results", "cache", ".snakemake", "told"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "told").mkdir()

    def told(self) -> list[tuple[int, bool]]:
        """Return of each run the parent of its process, and whether that is a run server."""
        texts = [path.read_text().split() for path in (self.folder / "told").iterdir() if not path.suffix]
        return [(int(pid), served == "True") for pid, served in texts]

    def servers(self) -> set[int]:
        """Return the servers that have forked for a run."""
        return {pid for pid, served in self.told() if served}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Telling:
    """Return a clone for all tests, so that the plug-ins' index holds."""
    return Telling(tmp_path_factory.mktemp("server") / "clone")


@pytest.fixture(scope="module")
def whole(shared: Telling) -> dict[str, bytes]:
    """Return the files of the study made without a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, OFF)
        shared.make()
    assert len(shared.told()) == 3 and not shared.servers()
    return shared.determined()


@pytest.fixture
def clone(shared: Telling, whole: dict[str, bytes]) -> Telling:
    """Return the clone with nothing made."""
    (shared.folder / "stay").unlink(missing_ok=True)
    shared.clear()
    return shared


def test_a_server_makes_the_same_files_and_ends_with_the_command(clone, whole):
    clone.make()
    (server,) = clone.servers()
    assert clone.told() == [(server, True)] * 3
    assert clone.determined() == whole
    assert ends(server, 0.5)


def test_nothing_is_started_where_one_run_is_to_be_made_or_none(clone):
    clone.make()
    shutil.rmtree(clone.folder / "told")
    (clone.folder / "told").mkdir()
    shutil.rmtree(clone.run_folder("telling 1"))
    assert clone.make().jobs == ["tables", "telling 1"]
    assert [served for _, served in clone.told()] == [False]


def test_two_studies_at_once_have_servers_of_their_own(clone, tmp_path):
    other = Telling(tmp_path / "other")
    running = [one.start("snakemake", "--cores", "1", TABLES) for one in (clone, other)]
    for process in running:
        text, _ = process.communicate(timeout=200)
        assert process.returncode == 0, text
    assert len(clone.servers()) == len(other.servers()) == 1
    assert not clone.servers() & other.servers()
    assert all(ends(server, 20) for server in clone.servers() | other.servers())


@pytest.mark.parametrize("group", [True, False], ids=["with its jobs", "alone"])
def test_a_killed_start_leaves_no_server(group, clone, whole):
    (clone.folder / "stay").touch()
    process = clone.start("snakemake", "--cores", "1", TABLES)
    clone.wait_for("told/*[0-9]", process)
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.wait(20)
    (server,) = clone.servers()
    if not group:
        time.sleep(1)
        assert not ends(server, 0.1), "its job is not done"
        (clone.folder / "stay").unlink()
    assert ends(server, 60)
    (clone.folder / "stay").unlink(missing_ok=True)
    clone.make()
    assert clone.determined() == whole


def test_ctrl_c_ends_everything_and_the_same_command_goes_on(clone, whole):
    (clone.folder / "stay").touch()
    process = clone.start("snakemake", "--cores", "1", TABLES)
    clone.wait_for("told/*[0-9]", process)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1, text
    (server,) = clone.servers()
    assert ends(server, 20)
    assert "stopped; type the same command to go on" in clone.log("telling 0") + clone.log("telling 1") + clone.log(
        "telling 2"
    )
    (clone.folder / "stay").unlink()
    clone.make()
    assert clone.determined() == whole


def test_code_that_is_edited_while_a_study_runs_is_run_as_it_then_is(clone):
    (clone.folder / "stay").touch()
    process = clone.start("snakemake", "--cores", "1", TABLES)
    clone.wait_for("told/*[0-9]", process)
    clone.edit("mmlbench/train/meter.py", "CHECK_EVERY = 50", "CHECK_EVERY = 49")
    (clone.folder / "stay").unlink()
    text, _ = process.communicate(timeout=100)
    clone.edit("mmlbench/train/meter.py", "CHECK_EVERY = 49", "CHECK_EVERY = 50")
    assert process.returncode == 0, text
    assert sorted(served for _, served in clone.told()) == [False, False, True]
    assert "runs of 2 versions of the engine" in (clone.folder / TABLES).read_text(encoding="utf-8")
