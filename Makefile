# make quickstart   set up, pretrain, adapt, evaluate, report: on data inside a dependency
# make test         lint and all tests          make test-fast   without the slow ones
# make parity       published families against their reference implementations (PARITY.md)
# make bench        speed against torch and transformers (benchmarks/RESULTS.md)
# make clean        remove the virtual environment

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/quickstart
TORCH ?= torch==2.13.0

.PHONY: quickstart test test-fast lint bench parity clean

# Pinned versions; the package itself is editable, so the stamps hold until the pins change.
$(VENV)/.base: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,test]'
	@touch $@

$(VENV)/.peers: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parity,plan]'
	@touch $@

quickstart: $(VENV)/.base
	$(BIN)/biofm train experiments/drug_discovery/smiles_masked.py:quickstart --workdir $(RUN)
	$(BIN)/biofm evaluate $(RUN) --task quickstart/tpsa --method probe finetune --seeds 1 \
	    --finetune.epochs 4 --finetune.rows 16 --finetune.learning-rate 1e-3 --out $(RUN)/results
	$(BIN)/biofm report $(RUN) --out $(RUN)/report.html --title "Quickstart"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: $(VENV)/.peers lint
	$(BIN)/pytest -n 2 --dist worksteal

test-fast: $(VENV)/.peers lint
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

bench: $(VENV)/.peers
	$(BIN)/python -m benchmarks.run

parity: $(VENV)/.peers
	$(BIN)/biofm parity

clean:
	rm -rf $(VENV)
