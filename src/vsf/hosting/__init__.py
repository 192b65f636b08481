"""What every host of the guidance shares: one denoiser call with a negative prompt in it. Imports torch alone.

A host says what the text tokens of a call are (`GuidedCall`), how a layer attends (`Role`), and hands its attention
calls over.
"""

from vsf.attention.partial import HostAttention
from vsf.hosting.call import GuidedCall, Record
from vsf.hosting.role import Role

__all__ = ["GuidedCall", "HostAttention", "Record", "Role"]
