"""Every error this package raises on purpose, on one page.

Each class is also the builtin that a caller would expect. Messages say what was expected, what came and what to do.
"""


class VsfError(Exception):
    """Root of the tree: catching it catches everything this package raises on purpose."""


class UnknownNameError(VsfError, ValueError):
    """No method, model or family is registered under this name."""


class KnobError(VsfError, ValueError):
    """A method has no such knob, or a knob or another setting has a value that is not allowed."""


class LayoutError(VsfError, ValueError):
    """Tensor shapes and token spans do not fit together."""


class UnsupportedPipelineError(VsfError, TypeError):
    """No family recognises the pipeline."""


class UnsupportedAttentionError(VsfError, TypeError):
    """The pipeline holds an attention processor that cannot be guided."""


class AlreadyGuidedError(VsfError, RuntimeError):
    """The pipeline or its denoiser is guided already, or in use by another thread."""


class NotGuidedError(VsfError, RuntimeError):
    """A non-empty negative prompt was given, but some part of the run was not guided, or there is nothing to report."""


class PromptError(VsfError, ValueError):
    """Prompts or their embeddings cannot be used: empty, of the wrong number, or padded without a mask."""


class RequestError(VsfError, ValueError):
    """A request to generate cannot be met, because of its size, a file, the output and the like."""


class MissingExtraError(VsfError, ModuleNotFoundError):
    """An optional package is not installed; an extra of this distribution installs it."""
