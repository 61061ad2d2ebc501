# Every target that runs Python makes its virtual environment first, so each works on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# One process per core, each with one thread: processes with several threads each would wait for each other.
PYTEST := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical
TRAIN := PYTHONPATH=tools $(BIN)/python -m motifs.train

.PHONY: help demo test test-slow test-long test-gpu check fix motifnet motifvit phraselstm phraseformer docs site catalogue bench reach scaling dreambench quality \
	overhead launches bench-gpu sweepbench explain-bench explore-bench text-bench atlas-bench features-bench trust-bench texture-bench \
	circuits-bench diff-bench accentuate-bench match-bench generators-bench axes-bench layersbench batchbench blocks-bench networks breakit \
	package startup clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*##  *\(.*\)/\1: \2/p' $(firstword $(MAKEFILE_LIST)) | sed 's/: /\t/' | expand -t 20

demo: $(READY)  ## dream on a photograph and render a gallery of the bundled network, into demo/
	mkdir -p demo
	$(BIN)/featviz dream docs/chelsea.webp --strength 0.4 -o demo/dream.png
	$(BIN)/featviz gallery --size 128 --steps 192 --judge motifvit -o demo/gallery

test: $(READY)  ## run the tests, except the slow and long ones
	$(PYTEST) --dist worksteal -m "not slow and not long"

test-slow: $(READY)  ## run the slow tests: trained networks, retraining, browser, Ray
	$(PYTEST) --dist loadfile -m "slow and not long"

test-long: $(READY)  ## run the full versions of sampled tests, before a release
	$(PYTEST) --dist worksteal -m long

test-gpu: $(READY)  ## run the tests that need a CUDA GPU
	$(BIN)/python -m pytest -m gpu

check: $(READY)  ## lint, type-check, and verify the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.14
	$(BIN)/lint-imports

fix: $(READY)  ## apply automatic fixes of the linter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

motifnet: $(READY)  ## train the bundled CNN again: over an hour on two cores, minutes on a GPU
	$(TRAIN) motifnet
	$(TRAIN) motifnet --steps 1369 --batch 512 --rate 2e-3 --seed 5 --further
	$(TRAIN) motifnet --steps 800 --rate 1e-3 --seed 72 --further

# The stage with seed 201 was run with SURE = 0.2 and with adversarial steps for partly shown drawings, too.
motifvit: $(READY)  ## train the bundled transformer again: several hours on two cores
	$(TRAIN) motifvit --steps 1600
	$(TRAIN) motifvit --steps 1600 --push 3 --further
	$(TRAIN) motifvit --steps 2700 --push 2 --rate 1e-3 --seed 2 --further
	$(TRAIN) motifvit --steps 1500 --push 0 --rate 1e-3 --seed 7 --further
	$(TRAIN) motifvit --steps 3500 --push 4 --rate 1e-3 --seed 21 --further
	$(TRAIN) motifvit --steps 5000 --push 5 --rate 1e-3 --seed 31 --further
	$(TRAIN) motifvit --steps 1246 --push 5 --batch 512 --rate 1e-3 --seed 5 --further
	$(TRAIN) motifvit --steps 1600 --push 4 --grain .4 --rate 1e-3 --seed 102 --further
	$(TRAIN) motifvit --steps 1500 --push 4 --grain .3 --spoilt .25 --rate 1e-3 --seed 103 --further
	$(TRAIN) motifvit --steps 2000 --push 5 --grain .2 --spoilt .3 --rate 1e-3 --seed 105 --further
	$(TRAIN) motifvit --steps 1500 --push 5 --grain .2 --spoilt .3 --rate 1e-3 --seed 42 --further
	$(TRAIN) motifvit --steps 1300 --push 5 --grain .2 --spoilt .25 --rate 1e-3 --seed 62 --further
	$(TRAIN) motifvit --steps 300 --push 5 --grain .2 --spoilt .25 --revealed .4 --rate 7e-4 --seed 201 --further
	$(TRAIN) motifvit --steps 500 --push 5 --grain .2 --spoilt .25 --revealed .4 --rate 7e-4 --seed 203 --further \
		--average .5 --sharpen 1.25

phraselstm: $(READY)  ## train the bundled LSTM again: minutes on one core
	PYTHONPATH=tools $(BIN)/python -m language.train phraselstm --spread 0.25 --empty

phraseformer: $(READY)  ## train the bundled text transformer again: 10 minutes on one core
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 3000 --short 0.4
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 2200 --spread 0.2 --seed 1 --further
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 2200 --spread 0.2 --seed 2 --further
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 2200 --spread 0.2 --empty --seed 3 --further
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 1500 --spread 0.2 --rate 1.5e-3 --seed 4 --further
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 1500 --spread 0.2 --rate 1.5e-3 --empty --seed 5 --further
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 1000 --spread 0.2 --rate 5e-4 --seed 6 --further
	PYTHONPATH=tools $(BIN)/python -m language.train phraseformer --steps 1200 --spread 0.2 --rate 1e-3 --seed 7 --further

docs: $(READY)  ## render the images of the README again
	PYTHONPATH=tools $(BIN)/python docs/pictures.py $(if $(MOBILENET),--mobilenet $(MOBILENET)) $(if $(PHOTOGRAPHS),--photographs $(PHOTOGRAPHS))

site: $(READY)  ## build the documentation site into build/site; runs the notebooks when they or the package changed
	$(BIN)/python docs/build_site.py

catalogue: $(READY)  ## render the catalogue again, about 20 minutes on two cores
	PYTHONPATH=tools $(BIN)/python docs/catalogue.py

bench: $(READY)  ## compare the speed with other libraries, about an hour on two cores
	$(BIN)/python benchmarks/peers.py $(if $(MOBILENET),--mobilenet $(MOBILENET))

reach: $(READY)  ## time until images reach the response that Lucent's reach in 512 steps
	$(BIN)/python benchmarks/reach.py $(if $(MOBILENET),--mobilenet $(MOBILENET))

scaling: $(READY)  ## measure how time and memory grow with size and batch, and plot it
	$(BIN)/python benchmarks/scaling.py

dreambench: $(READY)  ## time DeepDream against the original algorithm, and tiles against whole images
	$(BIN)/python benchmarks/dream.py

quality: $(READY)  ## measure what independent networks recognise in the images, two hours on two cores
	PYTHONPATH=tools $(BIN)/python benchmarks/quality.py --models $(MODELS) --photographs $(PHOTOGRAPHS) $(if $(KEEP),--keep $(KEEP))

overhead: $(READY)  ## time a step of a render relative to the network's own forward and backward pass
	$(BIN)/python benchmarks/overhead.py

launches: $(READY)  ## count the operations of a step inside and outside of the network
	$(BIN)/python benchmarks/launches.py

bench-gpu: $(READY)  ## compare the speed on a CUDA GPU with other libraries and the limit, about 20 minutes
	$(BIN)/python benchmarks/gpu.py $(if $(MOBILENET),--mobilenet $(MOBILENET))

sweepbench: $(READY)  ## time sweeps on one and two workers, and planning a million images
	$(BIN)/python benchmarks/sweep.py

explain-bench: $(READY)  ## measure attribution methods on images whose truth is known
	PYTHONPATH=tools $(BIN)/python benchmarks/explain.py

explore-bench: $(READY)  ## time the explorer: first tile, drafts, finished images, opening again
	$(BIN)/python benchmarks/explore.py $(if $(MOBILENET),--mobilenet $(MOBILENET))

text-bench: $(READY)  ## measure attribution methods on sentences whose truth is known
	PYTHONPATH=tools $(BIN)/python benchmarks/text.py

accentuate-bench: $(READY)  ## compare feature accentuation with a pixel penalty, about half an hour
	PYTHONPATH=tools $(BIN)/python benchmarks/accentuate.py

match-bench: $(READY)  ## measure images matched to photographs beside the default, about two hours
	PYTHONPATH=tools $(BIN)/python benchmarks/match.py --models $(MODELS) --photographs $(PHOTOGRAPHS) $(if $(KEEP),--keep $(KEEP))

generators-bench: $(READY)  ## compare class images of a VAE decoder and of Fourier coefficients, about half an hour
	PYTHONPATH=tools $(BIN)/python benchmarks/generators.py

atlas-bench: $(READY)  ## time an atlas of a million activations
	$(BIN)/python benchmarks/atlas.py

texture-bench: $(READY)  ## measure whether textured meshes are recognised from new directions
	$(BIN)/python benchmarks/texture.py

features-bench: $(READY)  ## measure dictionaries, names and scores of units on drawings whose truth is known
	PYTHONPATH=tools $(BIN)/python benchmarks/features.py
	PYTHONPATH=tools $(BIN)/python benchmarks/units.py
	$(if $(MODELS),PYTHONPATH=tools $(BIN)/python benchmarks/quality.py --models $(MODELS) --photographs $(PHOTOGRAPHS) --parts features --peers "")

trust-bench: $(READY)  ## measure the alarm for manipulated networks, half an hour on two cores
	PYTHONPATH=tools $(BIN)/python benchmarks/trust.py $(if $(MODELS),--models $(MODELS) --photographs $(PHOTOGRAPHS))

circuits-bench: $(READY)  ## measure whether the strongest inputs of units drive them
	PYTHONPATH=tools $(BIN)/python benchmarks/circuits.py $(if $(MOBILENET),--mobilenet $(MOBILENET) --photographs $(PHOTOGRAPHS))

diff-bench: $(READY)  ## measure comparisons of networks whose difference is known
	PYTHONPATH=tools $(BIN)/python benchmarks/diff.py

layersbench: $(READY)  ## time the listing of layers
	$(BIN)/python benchmarks/layers.py

blocks-bench: $(READY)  ## measure contributions to class logits against ablation
	PYTHONPATH=tools $(BIN)/python benchmarks/blocks.py $(if $(MODELS),--models $(MODELS) --photographs $(PHOTOGRAPHS))

axes-bench: $(READY)  ## measure whether class signals of a network are named by another one
	PYTHONPATH=tests $(BIN)/python benchmarks/axes.py

batchbench: $(READY)  ## compare images that are rendered alone and in a batch
	$(BIN)/python benchmarks/batches.py

networks: $(READY)  ## examine over 300 architectures of other packages, about ten minutes; writes docs/networks.md
	$(BIN)/python -m pip install --quiet --editable '.[networks]'
	PYTHONPATH=tests $(BIN)/python -m networks.table --output docs/networks.md

breakit: $(READY)  ## try to break commands, calls, recipes and output folders, over an hour
	PYTHONPATH=tests:tools $(BIN)/python -m robustness

package: $(READY)  ## build the wheel and the sdist, and use the wheel in an empty environment, about a minute
	PYTHONPATH=tools $(BIN)/python -m distribution.check

startup: $(READY)  ## time imports, `featviz --help` and a short render in a new process
	$(BIN)/python benchmarks/startup.py

clean:  ## remove the virtual environment, the demo and the site
	rm -rf .venv demo build

# Modules are compiled when they are first imported: most of those of large packages never are.
$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $(READY)
