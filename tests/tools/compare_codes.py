# SPDX-License-Identifier: Apache-2.0
# Compare every tensor that two files share, byte for byte, for scripts/bench.
import sys

import torch
from safetensors import safe_open


def bytes_of(tensor):
    return tensor.reshape(-1).view(torch.uint8)


with safe_open(sys.argv[1], "pt") as a, safe_open(sys.argv[2], "pt") as b:
    shared = sorted(set(a.keys()) & set(b.keys()))
    codes = differing = 0
    for name in shared:
        x, y = a.get_tensor(name), b.get_tensor(name)
        codes += x.numel() if x.dtype == torch.float8_e4m3fn else 0
        if x.dtype != y.dtype or not torch.equal(bytes_of(x), bytes_of(y)):
            differing += 1
print(f"{codes} codes of {len(shared)} tensors compared, {differing} tensors differ")
sys.exit(differing != 0)
