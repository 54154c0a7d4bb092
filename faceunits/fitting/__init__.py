"""Crops to parameters by gradient descent, with the fitted face as evidence."""

from faceunits.fitting.models import Models, load
from faceunits.fitting.optimise import RECIPES, Recipe, recipe
from faceunits.fitting.pipeline import fit, read, render, transfer

__all__ = ["RECIPES", "Models", "Recipe", "fit", "load", "read", "recipe", "render", "transfer"]
