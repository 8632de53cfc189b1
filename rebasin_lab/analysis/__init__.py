"""Measures between networks: lines, barriers, calibration, activations along a line.

`interpolation` evaluates lines and planes, `comparison` holds matchers against each other,
`calibration` is confidence against accuracy, `variance_collapse` the spread of activations.
"""
