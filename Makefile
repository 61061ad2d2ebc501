# Every target makes its own virtual environment first, so each works on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test check fix motifnet motifvit docs catalogue bench scaling dreambench quality overhead sweepbench explain-bench atlas-bench clean

demo: $(READY)  ## dream on a photograph, and make a gallery of the embedded network's classes, into demo/
	mkdir -p demo
	$(BIN)/featviz dream docs/chelsea.webp --strength 0.4 -o demo/dream.png
	$(BIN)/featviz gallery --size 128 --steps 192 --judge motifvit -o demo/gallery

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest

check: $(READY)  ## lint, type-check, and hold the imports against the house's plan
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(READY)  ## repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

motifnet: $(READY)  ## train the embedded CNN again: over an hour on two cores, minutes on a GPU
	$(BIN)/python -m motifs.train motifnet
	$(BIN)/python -m motifs.train motifnet --steps 1369 --batch 512 --rate 2e-3 --seed 5 --further
	$(BIN)/python -m motifs.train motifnet --steps 800 --rate 1e-3 --seed 72 --further

motifvit: $(READY)  ## train the embedded transformer again, some hours: hard, gently, harder and harder, and beside drawings of nothing
	$(BIN)/python -m motifs.train motifvit --steps 1600
	$(BIN)/python -m motifs.train motifvit --steps 1600 --push 3 --further
	$(BIN)/python -m motifs.train motifvit --steps 2700 --push 2 --rate 1e-3 --seed 2 --further
	$(BIN)/python -m motifs.train motifvit --steps 1500 --push 0 --rate 1e-3 --seed 7 --further
	$(BIN)/python -m motifs.train motifvit --steps 3500 --push 4 --rate 1e-3 --seed 21 --further
	$(BIN)/python -m motifs.train motifvit --steps 5000 --push 5 --rate 1e-3 --seed 31 --further
	$(BIN)/python -m motifs.train motifvit --steps 1246 --push 5 --batch 512 --rate 1e-3 --seed 5 --further
	$(BIN)/python -m motifs.train motifvit --steps 1600 --push 4 --grain .4 --rate 1e-3 --seed 102 --further
	$(BIN)/python -m motifs.train motifvit --steps 1500 --push 4 --grain .3 --spoilt .25 --rate 1e-3 --seed 103 --further
	$(BIN)/python -m motifs.train motifvit --steps 2000 --push 5 --grain .2 --spoilt .3 --rate 1e-3 --seed 105 --further
	$(BIN)/python -m motifs.train motifvit --steps 1500 --push 5 --grain .2 --spoilt .3 --rate 1e-3 --seed 42 --further
	$(BIN)/python -m motifs.train motifvit --steps 1300 --push 5 --grain .2 --spoilt .25 --rate 1e-3 --seed 62 --further

docs: $(READY)  ## draw the pictures of the README again
	$(BIN)/python docs/pictures.py $(if $(MOBILENET),--mobilenet $(MOBILENET))

catalogue: $(READY)  ## draw everything in the drawers again, about 20 minutes on two cores
	$(BIN)/python docs/catalogue.py

bench: $(READY)  ## race featviz against its peers, about an hour on two cores
	$(BIN)/python benchmarks/peers.py $(if $(MOBILENET),--mobilenet $(MOBILENET))

scaling: $(READY)  ## measure how time and memory grow, and draw it
	$(BIN)/python benchmarks/scaling.py

dreambench: $(READY)  ## time a dream beside the original algorithm, and tiles beside the whole
	$(BIN)/python benchmarks/dream.py

quality: $(READY)  ## measure what other networks see in the pictures, two hours on two cores
	$(BIN)/python benchmarks/quality.py --models $(MODELS) --photographs $(PHOTOGRAPHS) $(if $(KEEP),--keep $(KEEP))

overhead: $(READY)  ## time a step of a render over the bare pass of the network
	$(BIN)/python benchmarks/overhead.py

sweepbench: $(READY)  ## time sweeps on one and two workers, and what a million pictures cost to plan
	$(BIN)/python benchmarks/sweep.py

explain-bench: $(READY)  ## measure whether methods of attribution find what is there
	$(BIN)/python benchmarks/explain.py

atlas-bench: $(READY)  ## time an atlas of a million activations
	$(BIN)/python benchmarks/atlas.py

clean:  ## remove the virtual environment and what was drawn
	rm -rf .venv demo

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)
