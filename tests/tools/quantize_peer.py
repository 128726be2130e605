# SPDX-License-Identifier: Apache-2.0
# What people write themselves, for scripts/bench: the denoiser's matrices to E4M3 with one scale
# each, everything else as it is. Needs torch and safetensors; nothing else in Octavo does.
import sys

import torch
from safetensors.torch import load_file, save_file

source, target, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
tensors = {}
for name, tensor in load_file(source).items():
    is_matrix = tensor.ndim == 2 and name.endswith(".weight")
    if is_matrix and name.startswith("model.diffusion_model."):
        scale = tensor.abs().amax().float() / 448
        codes = (tensor.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        tensors[name] = codes
        tensors[name + "_scale"] = scale
    else:
        tensors[name] = tensor
save_file(tensors, target)
