"""Adversaries of training, attacks of evaluation, and their runner."""
