"""Pairs of networks to match, for every architecture."""

import dataclasses

import pytest


@pytest.fixture(scope="session")
def architecture(architecture):
    """Every architecture, with the symmetries that matchers handle: the same in every slot."""
    return dataclasses.replace(architecture, spec=architecture.spec.shared())


@pytest.fixture(params=range(3), ids="seed-{}".format)
def seed(request):
    return request.param


@pytest.fixture
def pair(architecture, seed):
    """Two unrelated networks, as read-only NumPy arrays, so that a matcher that writes fails."""
    return architecture.init_numpy(2 * seed), architecture.init_numpy(2 * seed + 1)
