"""Adversaries of training, attacks of evaluation, and what carries them out."""
