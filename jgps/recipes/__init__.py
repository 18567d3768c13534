"""Recipes: the settings that each task, algorithm and kind of policy is trained with."""

from jgps.recipes.recipe import POLICIES, PRIORS, Recipe, recipe

__all__ = [
    "POLICIES",
    "PRIORS",
    "Recipe",
    "recipe",
]
