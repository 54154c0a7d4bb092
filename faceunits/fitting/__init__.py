"""Crops to parameters by gradient descent, with the fitted face as evidence."""

from faceunits.fitting.models import Models, load
from faceunits.fitting.optimise import RECIPES, Recipe, recipe
from faceunits.fitting.pipeline import checked, fit, illustrate, read, render, transfer

__all__ = [
    "RECIPES",
    "Models",
    "Recipe",
    "checked",
    "fit",
    "illustrate",
    "load",
    "read",
    "recipe",
    "render",
    "transfer",
]
