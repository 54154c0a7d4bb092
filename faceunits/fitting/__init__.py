"""Crops to parameters by gradient descent, with the fitted face as evidence."""

from faceunits.fitting.models import Models, load
from faceunits.fitting.optimise import RECIPES, Recipe, recipe
from faceunits.fitting.pipeline import fit, illustrate, read, render, transfer

__all__ = ["RECIPES", "Models", "Recipe", "fit", "illustrate", "load", "read", "recipe", "render", "transfer"]
