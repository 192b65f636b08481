"""Start a ComfyUI server on a machine without an accelerator: python launch.py PATH [argument of ComfyUI ...]."""

import runpy
import sys

import torch

# The torchvision on PyPI is built for CUDA. Its operators have to be known before it is imported without one.
torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

if __name__ == "__main__":
    path, *arguments = sys.argv[1:]
    sys.path.insert(0, path)
    sys.argv = [f"{path}/main.py", *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")
