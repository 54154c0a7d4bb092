# make demo   set up .venv, measure a real photo, write a table and a picture
# make test   set up .venv, run the tests
# make lint   set up .venv, check style and types
# make results  every figure of docs/results (needs FACEUNITS_FACE_MODEL and FACEUNITS_FACES: folders)
# make bench  time videos beside MediaPipe, which gets an environment of its own

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out/demo

.PHONY: demo picture test lint bench results clean

# Remade when the requirements change; pip itself is left as Python brought it.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "faceunits needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	touch $@

# The photo is NASA's portrait of Eileen Collins (public domain), which scikit-image carries.
demo: $(VENV)/installed
	mkdir -p $(OUT)
	$(BIN)/python -c "from PIL import Image; from skimage import data; Image.fromarray(data.astronaut()).save('$(OUT)/astronaut.png')"
	$(BIN)/faceunits estimate $(OUT)/astronaut.png -o $(OUT)/astronaut.csv --overlay $(OUT)
	@echo "table:   $(CURDIR)/$(OUT)/astronaut.csv (about it: astronaut.json)"
	@echo "picture: $(CURDIR)/$(OUT)/astronaut_overlay.png"

# The picture in the README, to be remade when the weights or the drawing change.
picture: demo
	cp $(OUT)/astronaut_overlay.png docs/images/

test: $(VENV)/installed
	$(BIN)/python -m pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# Faces of seeds kept for testing, in the skins of people kept out; then every figure that needs no licence.
# Links to the photos of people kept out serve the commands that take folders. The drifts of single people
# stay in out/: they are nobody's business.
SHARDS := out/results
PHOTOS := $(abspath $(FACEUNITS_FACES))
results: $(VENV)/installed
	@test -d "$(FACEUNITS_FACE_MODEL)" && test -d "$(FACEUNITS_FACES)/london" || { echo "name the folders: make results FACEUNITS_FACE_MODEL=... FACEUNITS_FACES=..."; exit 1; }
	test -e $(SHARDS)/skins || $(BIN)/faceunits skins $(FACEUNITS_FACE_MODEL) $(FACEUNITS_FACES) $(SHARDS)/skins
	$(BIN)/faceunits synthesize $(SHARDS) --count 200 --set rig=$(FACEUNITS_FACE_MODEL) --set look=plain --set size=192 --set seed=900101 --set shard=200
	$(BIN)/faceunits synthesize $(SHARDS) --count 2000 --set rig=$(FACEUNITS_FACE_MODEL) --set skins=$(SHARDS)/skins/skins_kept_out.npz --set size=192 --set seed=900102 --set shard=2000
	$(BIN)/faceunits synthesize $(SHARDS) --count 400 --set rig=$(FACEUNITS_FACE_MODEL) --set skins=$(SHARDS)/skins/skins_kept_out.npz --set size=192 --set seed=900103 --set shard=400 --set muscles=1
	for kind in neutral smiling; do mkdir -p $(SHARDS)/kept_out/$$kind && for person in $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('faceunits/evaluation/kept_out.toml', 'rb'))['london'])"); do ln -sf $(PHOTOS)/london/$$kind/$$person.jpg $(SHARDS)/kept_out/$$kind/ || exit 1; done || exit 1; done
	$(BIN)/faceunits evaluate fit --recipe fast --plain $(SHARDS)/plain_900101_00000.npz --varied $(SHARDS)/varied_900102_00000.npz --faces $(FACEUNITS_FACES) -o docs/results
	$(BIN)/faceunits evaluate fit --recipe default --count 100 --plain $(SHARDS)/plain_900101_00000.npz --varied $(SHARDS)/varied_900102_00000.npz --faces $(FACEUNITS_FACES) -o docs/results
	$(BIN)/faceunits evaluate renders $(SHARDS)/varied_900102_00000.npz --count 2000 -o docs/results
	$(BIN)/faceunits evaluate renders $(SHARDS)/varied_900103_00000.npz --count 400 -o docs/results/muscles
	test -e $(SHARDS)/portraits.npz || $(BIN)/faceunits portraits $(FACEUNITS_FACES) $(SHARDS)/portraits.npz --size 192 --part test
	$(BIN)/faceunits animate $(SHARDS)/portraits.npz $(SHARDS) --count 1000 --set seed=900104 --set each=10 --set other_face=0.04 --set at_rest=0
	$(BIN)/faceunits evaluate renders $(SHARDS)/animated_900104_0000[0-4].npz -o docs/results/animated
	$(BIN)/faceunits animate $(SHARDS)/portraits.npz $(SHARDS) --count 1000 --set seed=900105 --set acting=true --set each=8
	$(BIN)/faceunits evaluate renders $(SHARDS)/animated_900105_0000[0-4].npz -o docs/results/acting
	$(BIN)/faceunits synthesize $(SHARDS) --count 400 --set rig=$(FACEUNITS_FACE_MODEL) --set skins=$(SHARDS)/skins/skins_kept_out.npz --set size=192 --set seed=900106 --set shard=400 --set muscles=1 --set brows_cm=[-0.45,0.2] --set neutral=true
	$(BIN)/faceunits evaluate renders $(SHARDS)/varied_900106_00000.npz --count 400 -o docs/results/beside_rest
	$(BIN)/faceunits animate $(SHARDS)/portraits.npz $(SHARDS) --count 400 --set seed=900107 --set each=10 --set other_face=0.04 --set at_rest=0 --set neutral=true
	$(BIN)/faceunits evaluate renders $(SHARDS)/animated_900107_0000[01].npz -o docs/results/beside_rest_moved
	$(BIN)/faceunits evaluate stability $(FACEUNITS_FACES)/clips/single_face.mp4 --tracked --frozen $(FACEUNITS_FACES)/clips/single_face.jpg -o docs/results
	$(BIN)/faceunits estimate $(FACEUNITS_FACES)/london/neutral $(FACEUNITS_FACES)/london/smiling -o $(SHARDS)/london.csv
	$(BIN)/faceunits evaluate groups $(SHARDS)/london.csv $(FACEUNITS_FACES)/london/subjects.csv --by gender,ethnicity,age --labels $(FACEUNITS_FACES)/london/contrast_labels.csv -o docs/results
	$(BIN)/faceunits evaluate groups $(SHARDS)/varied_900102_00000.npz --count 2000 -o docs/results
	$(BIN)/faceunits evaluate height $(SHARDS)/kept_out -o docs/results
	$(BIN)/faceunits evaluate robustness $(SHARDS)/kept_out/smiling -o $(SHARDS)/robustness
	cp $(SHARDS)/robustness/robustness.md $(SHARDS)/robustness/robustness.json $(SHARDS)/robustness/robustness_curves.png docs/results/
	$(BIN)/faceunits evaluate ablations --quick --shard $(SHARDS)/varied_900102_00000.npz --pairs $(SHARDS)/kept_out --count 12 --people 6 -o docs/results

bench: $(VENV)/installed
	test -x .venv-mediapipe/bin/python || { $(PYTHON) -m venv .venv-mediapipe && .venv-mediapipe/bin/python -m pip install --disable-pip-version-check -q mediapipe==0.10.21 av; }
	$(BIN)/python benchmarks/video.py --mediapipe .venv-mediapipe/bin/python --engines torch onnx

clean:
	rm -rf $(VENV) out
