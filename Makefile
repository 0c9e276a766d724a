# make repro: the study on the embedded sample; JOBS=n: n stages side by side. make test: all tests. make smoke: each kind of stage once. All make .venv first.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONHASHSEED := 0
export TF_CPP_MIN_LOG_LEVEL := 2

COMPILE := uv pip compile --python-version 3.11 --generate-hashes --quiet --no-emit-index-url --no-emit-find-links --custom-compile-command 'make requirements'

.PHONY: repro test smoke lint requirements settings estimate verify bench doctor prune

repro: .venv/ready
	$(if $(JOBS),python -m lesions.parallel --jobs $(JOBS),dvc repro)
	@cat metrics/compare.md
	@echo; echo "Tables: metrics/compare.md, metrics/compare.csv. Pictures: plots/compare/. All plots: dvc plots show."

test: .venv/ready
	python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The last commit, from nothing, in a clone of its own, two stages at once: without dvc.lock, whose 8,000 lines DVC
# rewrites after every stage.
smoke: .venv/ready
	rm -rf .smoke && git clone --quiet . .smoke && rm .smoke/dvc.lock
	cd .smoke && python -m lesions.settings settings/smoke.yaml && python -m lesions.parallel --jobs 2 && dvc status | tee status.log
	@grep -q "up to date" .smoke/status.log

lint: .venv/ready
	ruff check .
	ruff format --check .

# After a change of requirements.in: the versions and hashes of all that it leads to, for Linux and macOS. Asks for uv.
requirements:
	$(COMPILE) --universal requirements.in --output-file requirements.txt
	$(COMPILE) --no-deps requirements-scorer.in --output-file requirements-scorer.txt

# Lay settings/NAME.yaml over params.yaml: make settings NAME=full. Back to the sample: git checkout params.yaml
settings: .venv/ready
	$(if $(NAME),,$(error say which: make settings NAME=full; there is $(patsubst settings/%.yaml,%,$(wildcard settings/*.yaml))))
	@python -m lesions.settings settings/$(NAME).yaml

# Time, disk and memory that params.yaml would take here, with settings/NAME.yaml laid over it if NAME is said.
estimate: .venv/ready
	@python -m lesions.estimate $(if $(NAME),settings/$(NAME).yaml)

# Every stage again, alone with what dvc.yaml declares for it: the same bytes as make repro left, or the first that differs.
verify: .venv/ready
	python -m lesions.reproduce

# How fast, beside what others use: docs/results/bench.md. One alone: make bench ONLY=prepare; SIZE=small, usual or full.
SIZE ?= usual
bench: .venv/ready
	python -m benchmarks $(ONLY) --size $(SIZE)

# What is wrong with this installation.
doctor: .venv/ready
	@python -m lesions.doctor

# Outputs, logs and lock entries of stages that params.yaml no longer has.
prune: .venv/ready
	python -m lesions.prune

.venv/ready: requirements.txt requirements-scorer.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
		{ echo "error: $(PYTHON) is not Python 3.11 or 3.12; say make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "error: $(PYTHON) has no venv; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-scorer.txt
	touch $@
