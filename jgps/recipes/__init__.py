"""Recipes: the settings that each task, algorithm and kind of policy is trained with."""

from jgps.recipes.recipe import (
    PRIORS,
    Recipe,
    has_setting,
    prior_name,
    recipe,
    seeing,
    trains_network,
    usual_iterations,
)

__all__ = [
    "PRIORS",
    "Recipe",
    "has_setting",
    "prior_name",
    "recipe",
    "seeing",
    "trains_network",
    "usual_iterations",
]
