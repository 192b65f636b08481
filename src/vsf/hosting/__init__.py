"""The part of a guided denoiser call that all hosts share, such as diffusers and ComfyUI. Imports torch alone.

A host describes the text tokens of a call (`GuidedCall`) and how each layer attends (`Role`), and passes its attention
calls to `GuidedCall.attend`.
"""

from vsf.attention.partial import HostAttention
from vsf.hosting.call import GuidedCall, Record
from vsf.hosting.role import Role

__all__ = ["GuidedCall", "HostAttention", "Record", "Role"]
