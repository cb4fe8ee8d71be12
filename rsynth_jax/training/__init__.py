"""Training: recipes, the functions they name, the train steps of classifiers, and the loop."""
