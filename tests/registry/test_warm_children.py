"""What the tests start instead of real children answers as these do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from warm_children import WarmChildren

#: Code of a child; what it is given stands on its standard input.
CODE = {
    "answers": "import sys; print(sys.stdin.read()[::-1])",
    "writes to both": "import os; os.write(1, b'out'); os.write(2, b'err')",
    "sees its words": "import sys; print(sys.argv, sys.orig_argv)",
    "sees place and environment": "import os; print(os.getcwd(), os.environ['HERE'])",
    "has nothing of the project": "import sys; print([n for n in sys.modules if 'mmlbench' in n or 'warm' in n])",
    "fails": "raise ValueError('the reason')",
    "leaves": "import sys; sys.exit(3)",
    "leaves with words": "import sys; sys.exit('the reason')",
    "ends at once": "import os; os._exit(5)",
    "is killed": "import os; os.kill(os.getpid(), 9)",
}


def options(seconds: float = 60) -> dict:
    environment = os.environ | {"HERE": "a place", "PYTHONPATH": ""}
    given = {"input": "given", "timeout": seconds, "env": environment}
    return given | {"capture_output": True, "text": True, "check": False}


@pytest.mark.parametrize("name", CODE)
def test_a_fork_ends_as_a_real_child_does(
    name: str, warm_children: WarmChildren, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-P", "-c", CODE[name], "word", "--mmlbench-child"]
    fork, real = warm_children.run(command, **options()), subprocess.run(command, **options())
    assert (fork.returncode, fork.stdout) == (real.returncode, real.stdout)
    assert fork.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_a_fork_whose_time_is_over_is_killed_and_the_next_one_answers(warm_children: WarmChildren) -> None:
    words = [sys.executable, "-P", "-c"]
    with pytest.raises(subprocess.TimeoutExpired):
        warm_children.run([*words, "import time; time.sleep(600)"], **options(0.5))
    assert warm_children.run([*words, "print(7)"], **options()).stdout == "7\n"


def test_a_command_of_another_kind_is_run_as_it_is(warm_children: WarmChildren) -> None:
    command = [sys.executable, "-c", "import sys; print('torch' in sys.modules)"]
    assert warm_children.run(command, **options()).stdout == "False\n"
