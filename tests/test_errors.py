import inspect

import pytest

from vsf import errors

BUILTINS = {
    "UnknownNameError": ValueError,
    "KnobError": ValueError,
    "LayoutError": ValueError,
    "UnsupportedPipelineError": TypeError,
    "UnsupportedAttentionError": TypeError,
    "AlreadyGuidedError": RuntimeError,
    "NotGuidedError": RuntimeError,
    "PromptError": ValueError,
    "RequestError": ValueError,
    "MissingExtraError": ModuleNotFoundError,
}


@pytest.mark.parametrize("name", BUILTINS)
def test_every_error_is_ours_and_the_builtin_a_caller_expects(name):
    cls = getattr(errors, name)
    assert issubclass(cls, errors.VsfError)
    assert issubclass(cls, BUILTINS[name])


def test_the_page_holds_no_error_that_the_table_does_not():
    assert {name for name, _ in inspect.getmembers(errors, inspect.isclass)} == {"VsfError", *BUILTINS}
