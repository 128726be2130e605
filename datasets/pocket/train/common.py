# SPDX-License-Identifier: Apache-2.0
#
# What every stage of the training needs: device, pictures, checkpoints, logs.
import json
import os
import pathlib

import numpy as np
import torch
import torch.distributed
from PIL import Image
from torch.nn import functional

SEED = 20250601
FUSED_ATTENTION = functional.scaled_dot_product_attention


def pick_device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def join_workers():
    """(rank, workers) under torchrun, (0, 1) alone."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def average_gradients(parameters, workers):
    if workers == 1:
        return
    parameters = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in parameters])
    torch.distributed.all_reduce(flat)
    flat /= workers
    for p, g in zip(parameters, flat.split([p.numel() for p in parameters])):
        p.grad.copy_(g.view_as(p))


def autocast(device):
    """16-bit GEMMs and convolutions: three to five times FP32 on a CPU with AVX-512 BF16."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def image_layout(device):
    """Channels last is twice as fast on a GPU and twice as slow on a CPU with few channels."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def plain_attention(q, k, v, attn_mask=None, is_causal=False, **options):
    """What the fused kernel computes, 2.7 times as fast on a CPU for a hundred tokens."""
    if attn_mask is not None or is_causal:
        return FUSED_ATTENTION(q, k, v, attn_mask=attn_mask, is_causal=is_causal, **options)
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1) @ v


def tune_attention(device):
    if device.type == "cpu":
        functional.scaled_dot_product_attention = plain_attention


def to_pixels(images):
    """Bytes [N, H, W, 3] to floats [N, 3, H, W] in -1..1."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(pixels):
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def save_sheet(images, path, columns=8):
    """Bytes [N, H, W, 3] side by side in one PNG."""
    columns = min(columns, len(images))
    rows = [np.concatenate(list(images[i:i + columns]), 1) for i in range(0, len(images) // columns * columns, columns)]
    Image.fromarray(np.concatenate(rows, 0)).save(path)


def save_checkpoint(state, path):
    path = pathlib.Path(path)
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)     # a killed run leaves the old one


def load_checkpoint(path):
    path = pathlib.Path(path)
    return torch.load(path, map_location="cpu", weights_only=False) if path.exists() else None


def log(run, name, **values):
    print(name, *(f"{k} {v:.5g}" for k, v in values.items()), flush=True)
    with open(run / f"{name}.jsonl", "a") as lines:
        lines.write(json.dumps(values) + "\n")
