#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SD3.5's denoiser in plain PyTorch, as the peer of scripts/bench gpu.

Random weights, the shapes of Large or Medium, both guidance branches in one batch, one Euler step:
BF16 eager, BF16 with compiled blocks, and FP8 (torch._scaled_mm, static scales per tensor) with
compiled blocks. Writes JSON:

  {"torch": "2.9.0", "device": "NVIDIA H200",
   "steps": [{"model": "large", "pixels": 1024, "what": "BF16 compiled", "step_ms": 145.0}],
   "missing": ["FP8: torch._scaled_mm needs compute capability 8.9"]}

  bench_gpu_torch.py --out FILE [--models large medium] [--sizes 512 1024] [--seconds N]
  bench_gpu_torch.py --check   tiny, on the CPU: the velocity must be that of diffusers'
                               SD3Transformer2DModel with the same weights
"""

import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

HEAD = 64
SHAPES = {  # blocks, of which dual; the width is HEAD times the heads
    "large": dict(depth=38, heads=38, dual=0),
    "medium": dict(depth=24, heads=24, dual=13),
}
TEXT_TOKENS, TEXT_WIDTH, POOLED_WIDTH = 333, 4096, 2048
CHANNELS, PATCH, TABLE_SIDE = 16, 2, 192
E4M3_MAX = 448.0


class Fp8Linear(nn.Module):
    """Weights and inputs in E4M3, one scale each; inputs' are given, as a calibration would."""

    def __init__(self, linear, input_amax=16.0):
        super().__init__()
        weight_scale = linear.weight.abs().amax().float() / E4M3_MAX
        codes = (linear.weight.float() / weight_scale).to(torch.float8_e4m3fn)
        self.register_buffer("weight", codes)
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("input_scale", weight_scale.new_tensor(input_amax / E4M3_MAX))
        self.bias = linear.bias

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        codes = (rows.float() / self.input_scale).clamp(-E4M3_MAX, E4M3_MAX)
        y = torch._scaled_mm(codes.to(torch.float8_e4m3fn), self.weight.t(),
                             scale_a=self.input_scale, scale_b=self.weight_scale, bias=self.bias,
                             out_dtype=x.dtype, use_fast_accum=True)
        return y.reshape(*x.shape[:-1], -1)


def modulate(x, shift, scale):
    y = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return y * (1 + scale[:, None]) + shift[:, None]


class Heads(nn.Module):
    """The fused projection of one stream, with RMS norms of queries and keys."""

    def __init__(self, width):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q = nn.Parameter(torch.ones(HEAD))
        self.norm_k = nn.Parameter(torch.ones(HEAD))

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        q = F.rms_norm(q, (HEAD,), self.norm_q, eps=1e-6)
        k = F.rms_norm(k, (HEAD,), self.norm_k, eps=1e-6)
        return q, k, v


def attend(q, k, v):
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, width, is_dual, is_last):
        super().__init__()
        self.is_dual, self.is_last = is_dual, is_last
        self.x_modulation = nn.Linear(width, (9 if is_dual else 6) * width)
        self.context_modulation = nn.Linear(width, (2 if is_last else 6) * width)
        self.x_heads, self.context_heads = Heads(width), Heads(width)
        self.x_proj = nn.Linear(width, width)
        self.x_mlp = Mlp(width)
        if is_dual:
            self.x_heads2, self.x_proj2 = Heads(width), nn.Linear(width, width)
        if not is_last:
            self.context_proj = nn.Linear(width, width)
            self.context_mlp = Mlp(width)

    def forward(self, x, context, c):
        m = self.x_modulation(c).chunk(9 if self.is_dual else 6, dim=-1)
        n = self.context_modulation(c).chunk(2 if self.is_last else 6, dim=-1)
        # The last block's context has its scale first.
        context_in = modulate(context, n[1], n[0]) if self.is_last else modulate(context, n[0], n[1])
        parts = zip(self.x_heads(modulate(x, m[0], m[1])), self.context_heads(context_in))
        joint = attend(*(torch.cat(pair, dim=2) for pair in parts))
        tokens = x.shape[1]
        y = x + m[2][:, None] * self.x_proj(joint[:, :tokens])
        if self.is_dual:
            y = y + m[8][:, None] * self.x_proj2(attend(*self.x_heads2(modulate(x, m[6], m[7]))))
        x = y + m[5][:, None] * self.x_mlp(modulate(y, m[3], m[4]))
        if self.is_last:
            return x, context
        context = context + n[2][:, None] * self.context_proj(joint[:, tokens:])
        context = context + n[5][:, None] * self.context_mlp(modulate(context, n[3], n[4]))
        return x, context


class Embedder(nn.Module):
    def __init__(self, inner, width):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(inner, width), nn.Linear(width, width)

    def forward(self, x):
        return self.linear2(F.silu(self.linear1(x)))


def time_features(t):
    frequencies = torch.exp(-9.210340371976184 * torch.arange(128, device=t.device) / 128)
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Mmdit(nn.Module):
    def __init__(self, depth, heads, dual, text_width=TEXT_WIDTH, pooled_width=POOLED_WIDTH,
                 side=TABLE_SIDE):
        super().__init__()
        width = heads * HEAD
        self.side = side
        self.patch = nn.Linear(CHANNELS * PATCH * PATCH, width)
        self.position = nn.Parameter(torch.zeros(1, side * side, width))
        self.time, self.pooled = Embedder(256, width), Embedder(pooled_width, width)
        self.context = nn.Linear(text_width, width)
        self.blocks = nn.ModuleList(Block(width, i < dual, i + 1 == depth) for i in range(depth))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, PATCH * PATCH * CHANNELS)

    def crop(self, height, width):
        table = self.position.unflatten(1, (self.side, self.side))
        top, left = (self.side - height) // 2, (self.side - width) // 2
        return table[:, top:top + height, left:left + width].flatten(1, 2)

    def forward(self, latent, context, pooled, t):
        b, _, height, width = latent.shape
        rows, cols = height // PATCH, width // PATCH
        x = latent.reshape(b, CHANNELS, rows, PATCH, cols, PATCH).permute(0, 2, 4, 1, 3, 5)
        x = self.patch(x.reshape(b, rows * cols, -1)) + self.crop(rows, cols)
        c = F.silu(self.time(time_features(t).to(x.dtype)) + self.pooled(pooled))
        context = self.context(context)
        for block in self.blocks:
            x, context = block(x, context, c)
        scale, shift = self.final_modulation(c).chunk(2, dim=-1)
        y = self.final(modulate(x, shift, scale))
        y = y.reshape(b, rows, cols, PATCH, PATCH, CHANNELS).permute(0, 5, 1, 3, 2, 4)
        return y.reshape(b, CHANNELS, height, width)


# ---- The check against diffusers.

def copy_linear(to, *parts):
    to.weight.data = torch.cat([p.weight.data.flatten(1) for p in parts])
    to.bias.data = torch.cat([p.bias.data for p in parts])


def copy_heads(to, q, k, v, norm_q, norm_k):
    copy_linear(to.qkv, q, k, v)
    to.norm_q.data, to.norm_k.data = norm_q.weight.data, norm_k.weight.data


def copy_block(to, block):
    copy_linear(to.x_modulation, block.norm1.linear)
    copy_linear(to.context_modulation, block.norm1_context.linear)
    a = block.attn
    copy_heads(to.x_heads, a.to_q, a.to_k, a.to_v, a.norm_q, a.norm_k)
    copy_heads(to.context_heads, a.add_q_proj, a.add_k_proj, a.add_v_proj, a.norm_added_q,
               a.norm_added_k)
    copy_linear(to.x_proj, a.to_out[0])
    copy_linear(to.x_mlp.fc1, block.ff.net[0].proj)
    copy_linear(to.x_mlp.fc2, block.ff.net[2])
    if to.is_dual:
        a2 = block.attn2
        copy_heads(to.x_heads2, a2.to_q, a2.to_k, a2.to_v, a2.norm_q, a2.norm_k)
        copy_linear(to.x_proj2, a2.to_out[0])
    if not to.is_last:
        copy_linear(to.context_proj, a.to_add_out)
        copy_linear(to.context_mlp.fc1, block.ff_context.net[0].proj)
        copy_linear(to.context_mlp.fc2, block.ff_context.net[2])


def copy_model(to, model):
    copy_linear(to.patch, model.pos_embed.proj)
    to.position.data = model.pos_embed.pos_embed.data.clone()
    for mine, theirs in ((to.time, model.time_text_embed.timestep_embedder),
                         (to.pooled, model.time_text_embed.text_embedder)):
        copy_linear(mine.linear1, theirs.linear_1)
        copy_linear(mine.linear2, theirs.linear_2)
    copy_linear(to.context, model.context_embedder)
    for mine, theirs in zip(to.blocks, model.transformer_blocks):
        copy_block(mine, theirs)
    copy_linear(to.final_modulation, model.norm_out.linear)
    copy_linear(to.final, model.proj_out)


def check():
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(1)
    reference = SD3Transformer2DModel(
        sample_size=16, patch_size=PATCH, in_channels=CHANNELS, num_layers=3,
        attention_head_dim=HEAD, num_attention_heads=2, joint_attention_dim=48,
        caption_projection_dim=2 * HEAD, pooled_projection_dim=32, out_channels=CHANNELS,
        pos_embed_max_size=12, dual_attention_layers=(0, 1), qk_norm="rms_norm").eval()
    for p in reference.parameters():
        if p.ndim == 1:
            p.data += 0.1 * torch.randn_like(p)
    mine = Mmdit(3, 2, 2, text_width=48, pooled_width=32, side=12).eval()
    copy_model(mine, reference)
    latent, context = torch.randn(2, CHANNELS, 12, 16), torch.randn(2, 7, 48)
    pooled, t = torch.randn(2, 32), torch.tensor([731.0, 731.0])
    with torch.no_grad():
        want = reference(hidden_states=latent, encoder_hidden_states=context,
                         pooled_projections=pooled, timestep=t).sample
        got = mine(latent, context, pooled, t)
    worst = (got - want).abs().max().item() / want.abs().max().item()
    print(f"largest difference from diffusers: {worst:.2e} of the largest velocity")
    return 0 if worst < 1e-5 else 1


# ---- Measuring.

def build(shape, device):
    """Random weights of a sensible size, made where they will be."""
    torch.manual_seed(1)
    with torch.device("meta"):
        model = Mmdit(**shape)
    model = model.to_empty(device=device).to(torch.bfloat16).eval()
    for p in model.parameters():
        if p.ndim == 2:
            p.data.normal_(std=0.5 * p.shape[1] ** -0.5)
        else:
            p.data.normal_(std=0.02)
    for heads in (m for m in model.modules() if isinstance(m, Heads)):
        heads.norm_q.data.fill_(1)
        heads.norm_k.data.fill_(1)
    return model


def to_fp8(model):
    for block in model.blocks:
        for owner in list(block.modules()):
            for name, child in list(owner.named_children()):
                if isinstance(child, nn.Linear) and "modulation" not in name:
                    setattr(owner, name, Fp8Linear(child))


def compile_blocks(model):
    torch._dynamo.reset()
    for block in model.blocks:
        block.compile(dynamic=False)


def euler_step(model, latent, inputs, t, cfg=4.5, dt=-0.03):
    cond, uncond = model(latent.to(torch.bfloat16).expand(2, -1, -1, -1), *inputs, t).float()
    return latent + dt * (uncond + cfg * (cond - uncond))


def measure(model, pixels, device, deadline):
    side = pixels // 8
    latent = torch.randn(1, CHANNELS, side, side, device=device)
    inputs = (torch.randn(2, TEXT_TOKENS, TEXT_WIDTH, device=device, dtype=torch.bfloat16),
              torch.randn(2, POOLED_WIDTH, device=device, dtype=torch.bfloat16))
    t = torch.full((2,), 731.0, device=device)
    times = []
    with torch.no_grad():
        for i in range(10):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            euler_step(model, latent, inputs, t)
            end.record()
            end.synchronize()
            if i >= 3:
                times.append(begin.elapsed_time(end))
            if times and time.monotonic() > deadline:
                break
    return statistics.median(times)


def has_fp8():
    return torch.cuda.get_device_capability() >= (8, 9) and hasattr(torch, "_scaled_mm")


def measure_model(result, name, sizes, deadline):
    model = build(SHAPES[name], "cuda")
    variants = [("BF16 eager", None), ("BF16 compiled", compile_blocks)]
    if has_fp8():
        variants.append(("FP8 compiled", lambda m: (to_fp8(m), compile_blocks(m))))
    else:
        result["missing"].append("FP8: torch._scaled_mm needs compute capability 8.9")
    for what, prepare in variants:
        if time.monotonic() > deadline:
            result["missing"].append(f"{name}, {what}: no time was left")
            continue
        try:
            if prepare:
                prepare(model)
            for pixels in sizes:
                ms = measure(model, pixels, "cuda", deadline)
                result["steps"].append(
                    dict(model=name, pixels=pixels, what=what, step_ms=round(ms, 3)))
                print(f"PyTorch, {name}, {what}, {pixels}: {ms:.2f} ms", file=sys.stderr)
        except Exception as error:  # a peer that fails must not take our figures with it
            result["missing"].append(f"{name}, {what}: {str(error).splitlines()[0]}")
    del model
    torch.cuda.empty_cache()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="result to write (JSON)")
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[512, 1024])
    parser.add_argument("--seconds", type=float, default=180, help="begin nothing after this long")
    parser.add_argument("--check", action="store_true", help="compare with diffusers on the CPU")
    args = parser.parse_args()
    if args.check:
        return check()
    if not args.out:
        parser.error("--out is missing")
    if not torch.cuda.is_available():
        print("bench_gpu_torch: PyTorch finds no GPU", file=sys.stderr)
        return 3
    result = dict(torch=torch.__version__, device=torch.cuda.get_device_name(), steps=[],
                  missing=[])
    deadline = time.monotonic() + args.seconds
    for name in args.models:
        measure_model(result, name, args.sizes, deadline)
    with open(args.out, "w") as out:
        json.dump(result, out, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
