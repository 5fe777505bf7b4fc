# `make` alone lists the targets. Variables: PYTHON, VENV, CORES, TORCH, WORKERS (see `make help`).
VENV    ?= .venv
PYTHON  ?= python3
CORES   ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
WORKERS ?= $(if $(filter 1,$(CORES)),0,2)
TORCH   ?=

# The shells of Snakemake's rules take the first `python` on PATH: it has to be the environment's. Once that exists
# the default PYTHON means its own, so that a Python named at the first call need not be named again.
export PATH := $(abspath $(VENV))/bin:$(PATH)
# Settings of another Python in the caller's shell must not reach the environment's.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

SUPPORTED  := 3.11 3.12 3.13
ALL_TABLES := results/all_tables.csv

.DEFAULT_GOAL := help
.PHONY: help env results quick leaderboard test test-all test-long test-browser test-tex test-reference test-slurm check-bits slurm-demo docs lint clean

help:
	@echo 'make results    make the environment, run the default grid, show the leaderboard (about 15 minutes on 2 cores)'
	@echo 'make quick      the same with a grid of about 2 minutes (config/quick.yaml), to see that it works'
	@echo 'make leaderboard  open the page of the last study in the browser'
	@echo 'make test       the tests, without those marked slow; PART=2/4: one quarter of them'
	@echo 'make test-long  the tests marked slow; PART=2/4 as above'
	@echo 'make test-all   every test there is (an hour or two); writes docs/test-all.md'
	@echo 'make check-bits  does this machine print our digits? Runs in portable arithmetic against committed digests'
	@echo 'make test-browser  the page in a real Chromium; make test-tex: the LaTeX tables by a real TeX (else not run)'
	@echo 'make test-reference  resampling against librosa and resampy, `hf:FOLDER` against transformers; it installs them (600 MB)'
	@echo 'make test-slurm the tests on a real SLURM cluster that they stand up here (root on Debian; about 6 minutes)'
	@echo 'make slurm-demo the quick grid on such a cluster, which is then taken down'
	@echo 'make docs       the documentation as a site in site/; a broken link or anchor fails'
	@echo 'make lint       ruff, snakefmt, snakemake --lint, mypy'
	@echo 'make env        only the environment ($(VENV)); the others make it when it is missing or out of date'
	@echo 'make clean      remove the environment and the tools'"'"' caches; results/ and cache/ are kept'
	@echo
	@echo 'PYTHON=python3.12  the Python to make the environment with (3.11 to 3.13)'
	@echo 'TORCH=cpu          the small build of PyTorch, for a machine without a GPU'
	@echo 'TORCH=cu126        the build for CUDA 12.6: where nvidia-smi shows a CUDA Version below 13.0 (or cu118, rocm6.4, auto)'
	@echo 'CORES=8            how many cores the runs may use (here: $(CORES))'
	@echo
	@echo "Inside the environment (source $(VENV)/bin/activate): snakemake --cores all $(ALL_TABLES)"

# The version is checked here, and in words that any Python understands: tools/environment.py needs 3.11 to parse.
env:
	@found=`$(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null` || found='no Python that runs'; \
	case " $(SUPPORTED) " in *" $$found "*) exit 0 ;; esac; \
	fix='Install one with its venv module, then name it'; name=python3.12; \
	for version in $(SUPPORTED); do ! python$$version -c "" >/dev/null 2>&1 || { name=python$$version; fix='There is one here'; }; done; \
	echo "mmlbench: $(PYTHON) is $$found; Python 3.11, 3.12 or 3.13 is needed. $$fix: make $(firstword $(MAKECMDGOALS)) PYTHON=$$name" >&2; \
	exit 2
	@$(PYTHON) tools/environment.py --venv '$(VENV)' --torch '$(TORCH)'

results: env
	snakemake --cores $(CORES) $(ALL_TABLES)
	mmlbench leaderboard

quick: env
	snakemake --cores $(CORES) --configfile config/quick.yaml -- $(ALL_TABLES)
	mmlbench leaderboard

leaderboard: env
	mmlbench leaderboard --open

# Two workers, one thread each: on two cores that is faster than one worker with two threads. Each takes its half in
# order, so that what the tests of a file share is made once; who is done first takes over from the other.
PARALLEL := -n $(WORKERS) --dist worksteal
PART ?= 1/1
test: env
	OMP_NUM_THREADS=1 python -m pytest -m 'not slow and not browser and not tex' --part $(PART) $(PARALLEL)

# pytest ends with 5 where no test is marked slow: nothing ran, and nothing failed.
test-long: env
	OMP_NUM_THREADS=1 python -m pytest -m slow --part $(PART) $(PARALLEL) || test $$? -eq 5

# Each part goes on where another has failed. What needs a browser, TeX, a package or a cluster is skipped with the
# reason where there is none. The result is a page of the docs, written whether tests failed or not.
REPORTS := build/test-all
test-all: env
	rm -rf $(REPORTS) && mkdir -p $(REPORTS)
	for part in test test-long test-browser test-tex test-reference test-slurm; do \
		PYTEST_ADDOPTS="--junitxml=$(REPORTS)/$$part.xml -ra" $(MAKE) --no-print-directory $$part || true; \
	done
	python tools/count_tests.py $(REPORTS) --record docs/test-all.md

# Each of the workers has a cluster of its own; most of the time is waiting. Elsewhere than on Debian as root they are
# skipped with the reason; SLURM=required makes that a failure.
SLURM         ?= wanted
SLURM_WORKERS ?= 4
test-slurm: env
	MMLBENCH_SLURM=$(SLURM) OMP_NUM_THREADS=1 python -m pytest tests/slurm -n $(SLURM_WORKERS) --dist loadgroup

slurm-demo: env
	python tests/slurm/demo.py

# Where a tool is missing the tests skip and say so: pytest's 0, nothing passed. Chromium and TeX are the distribution's.
test-browser: env
	uv pip install --quiet --python '$(VENV)/bin/python' -c constraints.txt -r pyproject.toml --extra browser || true
	OMP_NUM_THREADS=1 python -m pytest -m browser -rs tests/report/test_browser.py tests/workflow/test_snakemake_report.py

# librosa and resampy themselves (500 MB with numba) beside the values recorded from them; transformers (100 MB) beside `hf:FOLDER`.
test-reference: env
	uv pip install --quiet --python '$(VENV)/bin/python' -c constraints.txt -r pyproject.toml --extra reference --extra hf || true
	OMP_NUM_THREADS=1 python -m pytest -rs tests/decode/test_resampling.py tests/encoders/test_hf.py

# Runs in portable arithmetic against the digests in tools/bits.json.
check-bits: env
	python tools/check_bits.py --cores $(CORES)

test-tex: env
	OMP_NUM_THREADS=1 python -m pytest -m tex -rs tests/report/test_tex.py

# Strict: every warning, such as a link without a target, is an error (never with --quiet, which drops the warnings
# before they count). Nothing is fetched while it builds.
docs: env
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict
	@echo 'mmlbench: the site is in site/; open site/index.html'

lint: env
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	python tools/lint_workflow.py
	mypy

clean:
	rm -rf '$(VENV)' '$(VENV).state' build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mmlbench methods datasets workflow tests tools -name __pycache__ -prune -exec rm -rf {} +
	@echo 'Kept: results/, cache/ and .snakemake/ (remove them by hand to start from nothing).'
