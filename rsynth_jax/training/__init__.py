"""Recipes, losses and train steps."""
