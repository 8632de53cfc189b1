"""Measures between networks: lines, barriers, calibration, activations along a line.

`interpolation` evaluates lines and planes, `comparison` compares matchers, `calibration` compares
confidence and accuracy, and `variance_collapse` measures the standard deviation of activations.
"""
