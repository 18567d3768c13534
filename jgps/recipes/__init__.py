"""Recipes: the settings that each task, algorithm and kind of policy is trained with."""

from jgps.recipes.recipe import (
    POLICIES,
    PRIORS,
    Recipe,
    has_setting,
    policy_kind,
    prior_name,
    recipe,
    takes_random_starts,
    trains_network,
    usual_iterations,
    visual_changes,
)

__all__ = [
    "PRIORS",
    "Recipe",
    "has_setting",
    "prior_name",
    "recipe",
    "visual_changes",
    "policy_kind",
    "POLICIES",
    "takes_random_starts",
    "trains_network",
    "usual_iterations",
]
