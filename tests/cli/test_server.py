"""The run server: a forked command is the command, in its files, its exit code, its signals, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, ends, lives

from mmlbench.cli import server
from mmlbench.storage.hashing import file_digest
from mmlbench.system import arithmetic
from mmlbench.system.handover import OFF, VARIABLE
from mmlbench.testing import PLUGINS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are run servers on Linux alone")

#: A method that does what a file `deed` in the present folder says, before it trains.
DEED = '''
import json
import os
import signal
import sys
from pathlib import Path

from mmlbench.methods.joint import Joint
from mmlbench.registry import register


@register
class Deed(Joint):
    """Joint training after a deed."""

    def before_epoch(self, context):
        super().before_epoch(context)
        deed = Path("deed").read_text() if Path("deed").exists() else ""
        if deed == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif deed == "leave":
            os._exit(7)
        elif deed == "raise":
            raise ValueError("on purpose")
        elif deed == "show":
            facts = [sys.argv, os.environ.get("TMPDIR"), os.getcwd(), os.getpgid(0)]
            Path("shown").write_text(json.dumps(facts))
'''
#: Epochs of a run that does not end before something has happened to it, and of one that ends after it.
ENDLESS, LONG = 3000, 40


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Return a server that all tests of this file may use and none may end."""
    with Served() as found:
        yield found
        assert lives(found.server)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, the present one, beside a plug-in folder with the method `deed`."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "deed.py").write_text(DEED, encoding="utf-8")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def words(tiny, place: Path) -> list[str]:
    """Return the command that trains `deed` below the present folder."""
    return ["train", *tiny.words("deed", Path("results")), "--plugins", str(place.parent / "mine")]


def epochs(words: list[str], count: int) -> list[str]:
    """Return a command with another number of epochs."""
    return [f"epochs={count}" if word.startswith("epochs=") else word for word in words]


def determined(results: Path) -> dict[str, str]:
    """Return the digests of the files that must not depend on how a run was made."""
    found = (path for path in results.glob("runs/*/*/*/*/*") if path.name != "provenance.json")
    return {str(path.relative_to(results)): file_digest(path) for path in found}


def holder(place: Path, process: subprocess.Popen[str]) -> int:
    """Return the process that makes the run below the present folder, once it trains."""
    until = time.monotonic() + 100
    while not (found := list(place.glob("results/runs/*/*/*/*/lease.json"))):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.005)
    return int(json.loads(found[0].read_text(encoding="utf-8"))["pid"])


def checkpoints(place: Path) -> list[Path]:
    """Return the checkpoints of the runs below the present folder."""
    return list(place.glob("results/runs/*/*/*/*/checkpoint.npz"))


def untimed(text: str) -> str:
    """Return what a command said without what a clock decides."""
    return re.sub(r"\d+\.\d+ s an epoch, \d+ s left|\d\d:\d\d:\d\d", "", text)


# --- the same -------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("method", ["joint", "di_mml", "ogm_ge", "ensemble", "modality_dropout"])
def test_a_forked_run_leaves_the_files_of_a_run_by_itself_and_says_the_same(
    method, tiny, served, tmp_path, monkeypatch
):
    found = []
    for name, call in (("a", served.call), ("b", served.alone)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        answer = call(["train", *tiny.words(method, Path("results"))], tmp_path / f"{name}.log")
        assert answer.code == 0, answer.text
        assert answer.forked == (name == "a")
        facts = json.loads(next(Path("results").glob(f"runs/*/*/{method}/*/provenance.json")).read_text())
        found.append((determined(Path("results")), untimed(answer.text), facts["command"], facts["threads"]))
    assert found[0] == found[1] and len(found[0][0]) >= 6


@pytest.mark.slow
@pytest.mark.skipif(bool(arithmetic.why_not_portable()), reason=arithmetic.why_not_portable())
def test_a_native_run_leaves_the_portable_server_and_computes_as_by_itself(tiny, tmp_path, monkeypatch):
    for name in (arithmetic.VARIABLE, *arithmetic.settings()):
        monkeypatch.delenv(name, raising=False)
    settings = arithmetic.environment(arithmetic.PORTABLE, {})
    words = ["train", *tiny.words("joint", Path("results")), "--recipe-set", "arithmetic=native"]
    found = []
    for name, environment in (("a", settings), ("b", {})):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        with Served(environment) as one:
            answer = one.call(words, tmp_path / f"{name}.log")
        assert answer.code == 0 and answer.forked, answer.text
        found.append((determined(Path("results")), untimed(answer.text)))
    assert found[0] == found[1] and len(found[0][0]) >= 6


@pytest.mark.slow
def test_noise_is_measured_by_a_fork_as_by_itself(tiny, served, tmp_path):
    results = [tmp_path / name for name in ("a", "b")]
    for place, call in zip(results, (served.call, served.alone), strict=True):
        assert served.alone(["train", *tiny.words("joint", place)], tmp_path / "log").code == 0
        noise = ["robustness", "--results", str(place), "--cache", str(tiny.cache), "--noise", "1"]
        answer = call([*noise, "--device", "cpu", "--plugins", str(PLUGINS)], tmp_path / "log")
        assert answer.code == 0, answer.text
        assert answer.forked == (call == served.call)
    files = [sorted(place.glob("robustness/**/*.npz")) for place in results]
    assert [file_digest(path) for path in files[0]] == [file_digest(path) for path in files[1]] != []


@pytest.mark.slow
def test_a_fork_has_the_folder_the_words_the_group_and_the_harmless_variables_of_its_command(words, place, served):
    (place / "deed").write_text("show")
    other = place / "tmp"
    other.mkdir()
    before = served.faults()
    process = served.start(words, place / "log", {"TMPDIR": str(other)})
    assert process.wait(100) == 0 and served.faults() > before
    argv, folder, here, group = json.loads((place / "shown").read_text())
    assert argv[1:] == words and Path(argv[0]).name == "__main__.py"
    assert folder == str(other) and here == str(place) and group == process.pid


@pytest.mark.slow
def test_commands_beside_each_other_have_logs_of_their_own(tiny, served, tmp_path):
    before, running = served.faults(), []
    for seed in range(4):
        run = ["train", *tiny.words("joint", tmp_path / "results"), "--seed", str(seed)]
        running.append(served.start(run, tmp_path / f"{seed}.log"))
    assert [process.wait(100) for process in running] == [0] * 4
    assert served.faults() > before
    for seed in range(4):
        lines = (tmp_path / f"{seed}.log").read_text().splitlines()
        assert any(f"/s{seed}-" in line for line in lines)
        assert not any(f"/s{other}-" in line for line in lines for other in range(4) if other != seed)


# --- how it ends ----------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(("deed", "code"), [("crash", -signal.SIGSEGV), ("leave", 7), ("raise", 1)])
def test_a_crash_costs_its_run_alone_and_ends_the_command_as_it_would_by_itself(deed, code, words, place, served):
    (place / "deed").write_text(deed)
    answers = [served.call(words, place / "log"), served.alone(words, place / "log")]
    assert [(answer.code, answer.forked) for answer in answers] == [(code, True), (code, False)]
    lines = [[line for line in answer.text.splitlines() if "taking over" not in line] for answer in answers]
    assert lines[0] == lines[1]
    (place / "deed").unlink()
    answer = served.call(words, place / "log")
    assert answer.code == 0 and answer.forked


@pytest.mark.slow
def test_a_wrong_request_is_refused_with_the_same_line_and_code(served, tmp_path):
    words = ["train", "--dataset", "tiny", "--method", "joit"]
    answers = [served.call(words, tmp_path / "log"), served.alone(words, tmp_path / "log")]
    assert answers[0].forked and answers[0].code == answers[1].code == 2
    assert answers[0].text == answers[1].text != ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_the_command_stops_the_run_with_a_checkpoint(number, words, place, served):
    process = served.start(epochs(words, ENDLESS), place / "log")
    child = holder(place, process)
    while not checkpoints(place) and process.poll() is None:  # it may come before the command asks for signals
        process.send_signal(number)
        time.sleep(0.2)
    assert child != process.pid and process.wait(60) == 128 + number
    assert checkpoints(place) and ends(child)


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False], ids=["Ctrl-C", "of the command alone"])
def test_an_interrupt_ends_the_run_as_it_would_by_itself(group, words, place, served):
    process = served.start(epochs(words, ENDLESS), place / "log")
    child = holder(place, process)
    (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
    assert process.wait(60) == 130 and ends(child)
    assert (place / "log").read_text().splitlines()[-1].startswith("mmlbench: stopped")


@pytest.mark.slow
def test_a_killed_command_takes_its_run_with_it(words, place, served):
    process = served.start(epochs(words, ENDLESS), place / "log")
    child = holder(place, process)
    assert child != process.pid
    process.kill()
    assert ends(child, 20)


@pytest.mark.slow
def test_a_stopped_group_stands_still_and_goes_on(words, place, served):
    process = served.start(epochs(words, ENDLESS), place / "log")
    child = holder(place, process)
    os.killpg(process.pid, signal.SIGSTOP)
    until = time.monotonic() + 20
    state = Path(f"/proc/{child}/stat")
    while state.read_text().rsplit(")", 1)[1].split()[0] != "T" and time.monotonic() < until:
        time.sleep(0.02)
    assert state.read_text().rsplit(")", 1)[1].split()[0] == "T"
    os.killpg(process.pid, signal.SIGCONT)
    os.killpg(process.pid, signal.SIGKILL)
    assert ends(child, 20)


@pytest.mark.slow
def test_where_the_server_is_killed_its_command_goes_on_by_itself_to_the_same_files(words, place):
    with Served() as own:
        process = own.start(epochs(words, LONG), place / "log")
        child = holder(place, process)
        os.kill(own.server, signal.SIGKILL)
        assert process.wait(100) == 0 and ends(child)
        assert "lost" in (place / "log").read_text()
        first = determined(place / "results")
        answer = own.alone([*epochs(words, LONG), "--results", "other"], place / "log")
    assert answer.code == 0 and determined(place / "other") == first


@pytest.mark.slow
def test_a_killed_server_takes_its_runs_with_it(words, place):
    with Served() as own:
        process = own.start(epochs(words, ENDLESS), place / "log")
        child = holder(place, process)
        os.kill(own.server, signal.SIGKILL)
        assert ends(child, 20)
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_frozen_server_lets_no_command_wait_for_ever(words, place):
    with Served() as own:
        process = own.start(epochs(words, LONG), place / "log")
        child = holder(place, process)
        os.kill(own.server, signal.SIGSTOP)
        assert process.wait(100) == 0 and not lives(child)
        os.kill(own.server, signal.SIGCONT)


# --- how the server ends --------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_who_has_started_it_and_a_command_at_work_goes_on(number, words, place):
    with Served() as own:
        process = own.start(epochs(words, LONG), place / "log")
        child = holder(place, process)
        own.host.send_signal(number)
        own.host.wait(20)
        assert process.wait(100) == 0 and "lost" not in (place / "log").read_text()
        assert ends(own.server, 20) and not lives(child)


@pytest.mark.slow
def test_a_server_that_is_asked_to_end_takes_nothing_more(words, place):
    with Served() as own:
        process = own.start(epochs(words, ENDLESS), place / "log")
        child = holder(place, process)
        os.kill(own.server, signal.SIGTERM)
        time.sleep(0.5)
        answer = own.call(["train", "--dataset", "tiny", "--method", "joit"], place / "other")
        assert answer.code == 2 and not answer.forked
        assert lives(own.server) and lives(child)
        process.terminate()
        assert process.wait(60) in (128 + signal.SIGTERM, -signal.SIGTERM) and ends(own.server, 20)


# --- whom it takes --------------------------------------------------------------------------------------------------
REFUSED = ["train", "--dataset", "tiny", "--method", "joit"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "forked"),
    [
        ({"TMPDIR": "/tmp", "SHLVL": "9"}, True),
        ({"OMP_NUM_THREADS": "2"}, False),
        ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, False),
        ({"ANYTHING": "else"}, False),
        ({"PYTHONPATH": "/nowhere"}, False),
        ({"PYTHONOPTIMIZE": "1"}, False),
        ({VARIABLE: OFF}, False),
        ({VARIABLE: "another"}, False),
    ],
)
def test_a_command_of_another_environment_runs_by_itself(env, forked, served, tmp_path):
    path = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), os.environ.get("PYTHONPATH")]))
    env = env | ({"PYTHONPATH": path} if "PYTHONPATH" in env else {})
    answer = served.call(REFUSED, tmp_path / "log", env)
    assert answer.code == 2 and answer.forked == forked


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "forked"),
    [({}, True), ({"umask": 0o077}, False), ({"process_group": None, "start_new_session": True}, False)],
    ids=["nothing", "umask", "session"],
)
def test_a_command_that_has_inherited_something_else_runs_by_itself(options, forked, served, tmp_path):
    answer = served.call(REFUSED, tmp_path / "log", **options)
    assert answer.code == 2 and answer.forked == forked


@pytest.mark.slow
def test_another_command_than_a_run_is_not_handed_over(served, tmp_path):
    answer = served.call(["prepare", "nothing"], tmp_path / "log")
    assert answer.code == 2 and not answer.forked


@pytest.mark.slow
def test_two_servers_serve_their_own_commands_alone(served, tmp_path):
    with Served({"ONEDNN_MAX_CPU_ISA": "AVX2"}) as other:
        before = served.faults()
        assert other.call(REFUSED, tmp_path / "log").forked and served.faults() == before
        before = other.faults()
        assert served.call(REFUSED, tmp_path / "log").forked and other.faults() == before
        mixed = other.call(REFUSED, tmp_path / "log", {VARIABLE: served.token})
        assert mixed.code == 2 and not mixed.forked


@pytest.mark.slow
def test_strangers_at_the_door_stop_nobody(served, tmp_path):
    names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if served.token in line]
    where = "\0" + names[0].removeprefix("@")
    silent, wordless, empty = (socket.socket(socket.AF_UNIX) for _ in range(3))
    for one in (silent, wordless, empty):
        one.connect(where)
    wordless.send(b"anything")
    empty.close()
    answer = served.call(REFUSED, tmp_path / "log")
    assert answer.code == 2 and answer.forked
    wordless.settimeout(20)
    with pytest.raises(ConnectionResetError):
        wordless.recv(1)
    for one in (silent, wordless):
        one.close()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["edit", "thread", "none"])
def test_edited_code_or_a_thread_ends_the_server(change, tmp_path):
    """A file that each Python of this environment imports at its start stands for any other."""
    site = tmp_path / "site" / "sitecustomize.py"
    site.parent.mkdir()
    thread = "import sys, threading, time\nif sys.orig_argv[3:4] == ['mmlbench.cli.server']:\n"
    thread += "    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    site.write_text(thread if change == "thread" else "X = 1\n", encoding="utf-8")
    time.sleep(0.1)  # a file that is as new as the server counts as changed
    path = os.pathsep.join(filter(None, [str(site.parent), os.environ.get("PYTHONPATH")]))
    with Served({"PYTHONPATH": path}) as own:
        if change != "thread":
            assert own.call(REFUSED, tmp_path / "log").forked
        if change == "edit":
            site.write_text("X = 2\n", encoding="utf-8")
        answer = own.call(REFUSED, tmp_path / "log")
        assert answer.code == 2 and answer.forked == (change == "none")
        assert ends(own.server, 20 if change != "none" else 0.1) == (change != "none")


# --- its parts ------------------------------------------------------------------------------------------------------
def test_a_file_that_was_edited_removed_or_written_while_it_was_imported_is_seen(tmp_path, monkeypatch):
    file = tmp_path / "imported.py"
    file.write_text("X = 1\n")
    module = types.ModuleType("imported_for_a_test")
    module.__file__ = str(file)
    monkeypatch.setattr(sys, "modules", {"imported_for_a_test": module})
    later = file.stat().st_ctime_ns + 10**9
    sources = server.Sources(later)
    assert sources.unchanged()
    assert not server.Sources(file.stat().st_ctime_ns).unchanged()
    assert not server.Sources(file.stat().st_ctime_ns + server.STEP_NS // 2).unchanged()
    facts = file.stat()
    file.write_text("X = 2\n")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert not sources.unchanged()
    sources = server.Sources(later + 10**9)
    file.unlink()
    assert not sources.unchanged()


def test_every_module_with_a_file_counts():
    files = server.Sources(time.time_ns() + 10**12).stamps
    assert {socket.__file__, server.__file__, pytest.__file__} <= set(files)


def test_a_second_thread_is_seen():
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    alone = server.one_thread()
    event.set()
    thread.join()
    assert not alone


def test_what_a_run_imports_starts_no_thread():
    code = "import importlib, mmlbench.cli.server as s; [importlib.import_module(m) for m in s.MODULES]; "
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code + "assert s.one_thread()"], check=True, env=environment)
