"""Scores of models and merges on a held-out set, and what is found by them: soups, lambdas, paths."""
