"""A fixture that records the kernel calls of a test."""

import pytest

import vsf.attention.rows


@pytest.fixture
def computed(monkeypatch):
    """(queries, keys) of every kernel call."""
    calls = []
    real = vsf.attention.rows.best_kernel

    def counting(*inputs, **options):
        kernel = real(*inputs, **options)

        def counted(query, key, *rest, **options):
            calls.append((query.shape[2], key.shape[2]))
            return kernel(query, key, *rest, **options)

        return counted

    monkeypatch.setattr(vsf.attention.rows, "best_kernel", counting)
    return calls
