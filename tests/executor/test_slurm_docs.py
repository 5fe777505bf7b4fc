"""docs/slurm-messages.md explains every message that the SLURM executor can print about a job."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import snakemake_executor_plugin_submitit

HERE = Path(snakemake_executor_plugin_submitit.__file__).parent
DOCS = Path(__file__).parents[2] / "docs" / "slurm-messages.md"
#: Where the sentences are made: module -> functions.
SPEAKERS = {
    "messages": ("why", "on_node", "ended", "refused", "absent", "_account"),
    "cluster": ("complaint", "_misfit"),
    "watch": ("_pending", "_query", "_retry", "_confirmed"),
    "submit": ("_later", "_limited"),
    "script": ("commands_of", "prefix_of", "no_pattern"),
    "resources": ("_number", "_word", "_gpus", "_extra", "_memory", "left_out", "request_of"),
    "sbatch": ("_get_job_id_from_submission_command",),
    "executor": ("__post_init__", "_cancel_all", "shutdown", "_open"),
}


def pieces(node):
    """Return the fixed parts of a string, up to where its fix or details begin."""
    if isinstance(node, ast.Constant):
        parts = [node.value]
    else:
        parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
    head = re.split(r": | \(|\. |; |, ", re.sub(r"^submitit: ", "", "".join(parts)), maxsplit=1)[0]
    return [part.strip() for part in head.split("\0") if part.strip()]


def is_trouble(node):
    """Return whether a piece of code makes a `Trouble` of what happened and its fix."""
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Trouble" and len(node.args) == 2


def sentences():
    """Yield (function, fixed parts) of every sentence."""
    for module, functions in SPEAKERS.items():
        tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
        for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in functions]:
            inner = {
                id(p) for n in ast.walk(function) if isinstance(n, ast.JoinedStr) for p in ast.walk(n) if p is not n
            }
            patterns = {id(n.elts[0]) for n in ast.walk(function) if isinstance(n, ast.Tuple) and len(n.elts) == 2}
            patterns |= {id(n.args[1]) for n in ast.walk(function) if is_trouble(n)}  # what to do about it
            skip = inner | patterns | {id(n.body[0].value) for n in [function] if isinstance(n.body[0], ast.Expr)}
            for node in ast.walk(function):
                text = isinstance(node, ast.JoinedStr) or (
                    isinstance(node, ast.Constant) and isinstance(node.value, str)
                )
                if text and id(node) not in skip and (found := pieces(node)) and len(" ".join(found).split()) >= 3:
                    yield f"{module}.{function.name}", tuple(found)


@pytest.mark.parametrize("found", sorted(set(sentences())), ids=lambda found: f"{found[0]}: {' … '.join(found[1])}")
def test_a_message_stands_in_the_docs(found):
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    assert re.search(r".{1,40}?".join(re.escape(part) for part in found[1]), text), " … ".join(found[1])


def test_there_are_sentences_to_look_for():
    assert len(set(sentences())) > 40
