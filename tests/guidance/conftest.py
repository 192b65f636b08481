"""What the tests of the methods share."""

import pytest

import vsf.attention


@pytest.fixture
def computed(monkeypatch):
    """(queries, keys) of every kernel call."""
    calls = []
    real = vsf.attention.kernel_for

    def counting(*inputs):
        kernel = real(*inputs)

        def counted(query, key, *rest):
            calls.append((query.shape[2], key.shape[2]))
            return kernel(query, key, *rest)

        return counted

    monkeypatch.setattr(vsf.attention, "kernel_for", counting)
    return calls
