"""Pairs of networks to match, for every architecture."""

import pytest


@pytest.fixture(params=range(2), ids="seed-{}".format)
def seed(request):
    return request.param


@pytest.fixture
def pair(architecture, seed):
    """Two unrelated networks, as read-only NumPy arrays, so that a matcher that writes fails."""
    return architecture.init_numpy(2 * seed), architecture.init_numpy(2 * seed + 1)
