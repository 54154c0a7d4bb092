# make demo   set up .venv, measure a real photo, write a table and a picture
# make test   set up .venv, run the tests
# make lint   set up .venv, check style and types
# make bench  time videos beside MediaPipe, which gets an environment of its own

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out/demo

.PHONY: demo picture test lint bench clean

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

bench: $(VENV)/installed
	test -x .venv-mediapipe/bin/python || { $(PYTHON) -m venv .venv-mediapipe && .venv-mediapipe/bin/python -m pip install --disable-pip-version-check -q mediapipe==0.10.21 av; }
	$(BIN)/python benchmarks/video.py --mediapipe .venv-mediapipe/bin/python --engines torch onnx

clean:
	rm -rf $(VENV) out
