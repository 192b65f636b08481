"""Every error this package raises on purpose, on one page.

Each class is also the builtin that a caller would expect. Its text says what was expected, what came and what to do.
"""


class VsfError(Exception):
    """Root of the tree: catching it catches everything this package raises on purpose."""


class UnknownNameError(VsfError, ValueError):
    """A method, model or family of that name is not registered."""


class KnobError(VsfError, ValueError):
    """A method has no such knob, or the value lies outside what the knob allows."""


class LayoutError(VsfError, ValueError):
    """Tensor shapes and token spans do not fit together."""


class UnsupportedPipelineError(VsfError, TypeError):
    """No family recognises the pipeline."""


class UnsupportedAttentionError(VsfError, TypeError):
    """The pipeline holds an attention processor that cannot be guided."""


class AlreadyGuidedError(VsfError, RuntimeError):
    """The pipeline is guided already; guiding it twice has no meaning."""


class NotGuidedError(VsfError, RuntimeError):
    """A non-empty negative prompt was given, yet no attention call was guided."""


class PromptError(VsfError, ValueError):
    """Prompts or their embeddings cannot be used: empty, of the wrong number, or padded without a mask."""


class RequestError(VsfError, ValueError):
    """A request to generate cannot be met: size, file, output and the like."""


class MissingExtraError(VsfError, ModuleNotFoundError):
    """A package is not installed that an extra of this distribution brings."""
