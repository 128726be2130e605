# SPDX-License-Identifier: Apache-2.0
#
# The autoencoder, in two phases: crops and whole images in turn (crops show many more shapes, but
# group norms see other statistics in whole images), then the decoder alone on codes with a little
# noise, for as long as one likes: the codes are fixed by then and the denoiser can be trained.
import multiprocessing
import random
import time

import numpy as np
import torch
from diffusers import AutoencoderKL

import common
import labels
import optimizer
import world

PHASES = ("both", "decoder")
GROUPS = 8      # of the norms: four channels in each outermost group, as in SD3's own, 128 in 32 groups


def new_vae():
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=16, block_out_channels=(32, 32, 64, 64), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=GROUPS,
        sample_size=world.SIDE, use_quant_conv=False, use_post_quant_conv=False, force_upcast=False)


def crop(image, scene, side, rng):
    """A side x side part, mostly around some shape, aligned with the latent grid."""
    x, y, box = rng.choice(rng.choice(scene["groups"])["boxes"])
    jitter = box // 2 + rng.randint(-side, 0) if rng.random() < 0.85 else rng.randint(-world.SIDE, world.SIDE)
    left, top = (min(max((v + jitter) // 8 * 8, 0), world.SIDE - side) for v in (x, y))
    return image[top:top + side, left:left + side]


class Pool:
    """Scenes rendered once; batches are drawn from it."""

    def __init__(self, seed, count):
        self.scenes = list(world.draw_scenes(seed, count))
        self.images = np.stack([world.render(s) for s in self.scenes])

    def batch(self, rng, count, side):
        picks = [rng.randrange(len(self.scenes)) for _ in range(count)]
        if side == world.SIDE:
            return common.to_pixels(self.images[picks])
        return common.to_pixels(np.stack([crop(self.images[i], self.scenes[i], side, rng) for i in picks]))


def psnr(vae, pixels, device):
    """Mean over images, decoded from the mean code, in FP32."""
    with torch.no_grad():
        out = vae.decode(vae.encode(pixels.to(device)).latent_dist.mean).sample
    error = (out.clamp(-1, 1) - pixels.to(device)).square().mean((1, 2, 3)) / 4
    return -10 * error.log10().mean().item(), out


def picture_loss(vae, codes, pixels):
    """Pixels of shapes count five times: most of a picture is background."""
    error = vae.decode(codes).sample.float() - pixels
    shape = (pixels - pixels[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.05   # a corner of an image is background
    weight = 1 + 4 * shape
    return ((error.abs() + error.square()) * weight).sum() / (3 * weight.sum())


def loss_of(vae, pixels, args, phase):
    if PHASES[phase] == "decoder":
        with torch.no_grad():
            codes = vae.encode(pixels).latent_dist.mean
            codes = codes + args.code_noise * codes.std() * torch.randn_like(codes)
        return picture_loss(vae, codes, pixels)
    codes = vae.encode(pixels).latent_dist
    kl = 0.5 * (codes.mean.square() + codes.var - 1 - codes.logvar).float().mean()
    return picture_loss(vae, codes.sample(), pixels) + args.kl_weight * kl


def train(args):
    device, run = common.pick_device(), args.run
    torch.manual_seed(common.SEED)
    vae = new_vae().to(device, memory_format=common.image_layout(device))
    optimizers = optimizer.make(vae, lambda name, p: p.ndim == 4 and "conv_in" not in name and "conv_out" not in name,
                                args.vae_lr, args.vae_adam_lr)
    state = common.load_checkpoint(run / "vae.pt") or {"phase": 0, "step": 0}
    if "vae" in state:
        vae.load_state_dict(state["vae"])
        for o, saved in zip(optimizers, state["optimizers"]):
            o.load_state_dict(saved)
    if state["phase"] >= args.phases:
        return
    pool = Pool(common.SEED, args.vae_scenes)
    check = common.to_pixels(np.stack([world.render(s) for s in world.draw_scenes(7, 16, held_out=True)]))
    for phase in range(state["phase"], args.phases):
        first = state["step"] if phase == state["phase"] else 0
        run_phase(vae, optimizers, pool, check, args, phase, first, device)


def next_batch(pool, rng, args, phase, step):
    crops = PHASES[phase] == "both" and step % 2
    return pool.batch(rng, args.crop_batch, args.crop_side) if crops else pool.batch(rng, args.whole_batch, world.SIDE)


def run_phase(vae, optimizers, pool, check, args, phase, first, device):
    rng, start = random.Random(common.SEED + 1000 * phase + first), time.time()
    steps = (args.vae_steps, args.decoder_steps)[phase]
    for step in range(first, steps):
        optimizer.set_rate(optimizers, min(1, (step + 1) / 50, max(0.02, (1 - step / steps) / 0.6)))
        pixels = next_batch(pool, rng, args, phase, step).to(device).contiguous(memory_format=common.image_layout(device))
        with common.autocast(device):
            loss = loss_of(vae, pixels, args, phase)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step(optimizers)
        if (step + 1) % args.vae_every == 0 or step + 1 == steps:
            quality, out = psnr(vae, check, device)
            common.log(args.run, "vae", phase=phase, step=step + 1, loss=loss.item(), psnr=quality,
                       seconds=time.time() - start)
            common.save_sheet(np.concatenate([common.to_bytes(check)[:8], common.to_bytes(out)[:8]]), args.run / "vae.png")
            done = step + 1 == steps
            common.save_checkpoint({"phase": phase + done, "step": 0 if done else step + 1, "vae": vae.state_dict(),
                                    "optimizers": [o.state_dict() for o in optimizers]}, args.run / "vae.pt")


def load_vae(run, device):
    vae = new_vae()
    vae.load_state_dict(common.load_checkpoint(run / "vae.pt")["vae"])
    return vae.to(device).eval()


def shard_path(run, index):
    return run / f"latents-{index:03d}.pt"


def render_shard(job):
    """(what a shard says of its scenes, images) of shard (index, size), in a process of its own."""
    index, size = job
    scenes = list(world.draw_scenes(common.SEED + 1 + index, size))
    told = {"captions": [s["caption"] for s in scenes],
            "words": torch.from_numpy(np.stack([labels.word_labels(s) for s in scenes])),
            "tokens": torch.from_numpy(np.stack([labels.token_labels(s) for s in scenes]))}
    return told, np.stack([world.render(s) for s in scenes])


@torch.no_grad()
def encode_images(vae, images, device):
    """Mean codes [N, 16, 16, 16]."""
    codes = []
    for at in range(0, len(images), 128):
        with common.autocast(device):
            pixels = common.to_pixels(images[at:at + 128]).to(device)
            codes.append(vae.encode(pixels).latent_dist.mean.float().cpu())
    return torch.cat(codes)


def encode(args):
    """Latents and captions of a large pool of scenes, in shards; existing shards are kept.

    The two constants of the VAE's config, one scale and one shift for all channels, come from the first.
    """
    device = common.pick_device()
    vae, first = load_vae(args.run, device), common.load_checkpoint(shard_path(args.run, 0))
    scale, shift = (first["scale"], first["shift"]) if first else (None, None)
    missing = [i for i in range(args.shards) if not shard_path(args.run, i).exists()]
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for index, (told, images) in zip(missing, pool.imap(render_shard, [(i, args.shard_size) for i in missing])):
            codes = encode_images(vae, images, device)
            if scale is None:
                scale, shift = 1 / codes.std().item(), codes.mean().item()
            common.save_checkpoint({"latents": ((codes - shift) * scale).half(), "scale": scale, "shift": shift, **told},
                                   shard_path(args.run, index))
            common.log(args.run, "latents", shard=index, scale=scale, shift=shift)
