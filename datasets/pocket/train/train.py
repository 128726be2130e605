# SPDX-License-Identifier: Apache-2.0
#
# One command for the whole recipe; a stage that finished is skipped, one that was stopped goes on.
#
#   python train.py all --run DIR
import argparse
import pathlib

import torch

STAGES = ("vae", "encode", "denoiser", "convert")


def options():
    parser = argparse.ArgumentParser(description="train the pocket model")
    parser.add_argument("stage", choices=STAGES + ("all",))
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of checkpoints, logs, sheets")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU")
    parser.add_argument("--workers", type=int, default=1, help="processes that render scenes")
    vae = parser.add_argument_group("autoencoder")
    vae.add_argument("--vae-scenes", type=int, default=4096)
    vae.add_argument("--vae-lr", type=float, default=4e-3, help="of Muon")
    vae.add_argument("--vae-adam-lr", type=float, default=2e-3)
    vae.add_argument("--vae-every", type=int, default=100, help="steps between checkpoints")
    vae.add_argument("--kl-weight", type=float, default=1e-5)
    vae.add_argument("--vae-steps", type=int, default=5000)
    vae.add_argument("--crop-batch", type=int, default=16)
    vae.add_argument("--crop-side", type=int, default=64)
    vae.add_argument("--whole-batch", type=int, default=4)
    vae.add_argument("--decoder-steps", type=int, default=1000)
    vae.add_argument("--code-noise", type=float, default=0.05, help="in standard deviations of the codes")
    vae.add_argument("--phases", type=int, default=2, choices=(1, 2), help="stop after this many")
    denoiser = parser.add_argument_group("denoiser")
    denoiser.add_argument("--shards", type=int, default=16, help="of scenes encoded once")
    denoiser.add_argument("--shard-size", type=int, default=4096, help="scenes in each")
    denoiser.add_argument("--steps", type=int, default=6000)
    denoiser.add_argument("--batch", type=int, default=64)
    denoiser.add_argument("--lr", type=float, default=1.5e-3, help="of Muon")
    denoiser.add_argument("--adam-lr", type=float, default=1e-3)
    denoiser.add_argument("--text-steps", type=int, default=500, help="of the encoders alone, first")
    denoiser.add_argument("--teach-text", type=float, default=0.01, help="weight of what words mean")
    denoiser.add_argument("--teach-image", type=float, default=0.03, help="weight of what image tokens show")
    denoiser.add_argument("--time-shift", type=float, default=2.5, help="of the times trained on: more is noisier")
    denoiser.add_argument("--crowded", type=float, default=2.0, help="share of scenes with three or four of a kind, times this")
    denoiser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    denoiser.add_argument("--sheet-every", type=int, default=1000, help="steps between sample sheets")
    denoiser.add_argument("--ema", type=float, default=0.998)
    denoiser.add_argument("--warmup", type=int, default=100, help="steps of rising learning rate")
    denoiser.add_argument("--decay", type=float, default=0.35, help="last part of the steps with falling rate")
    denoiser.add_argument("--compile", action="store_true", help="fuse with torch.compile: 1.5 times as fast")
    denoiser.add_argument("--guidance", type=float, default=3.0, help="of the sample sheets")
    parser.add_argument("--fp32", action="store_true", help="convert without rounding, into DIR/model-fp32")
    return parser.parse_args()


def main():
    args = options()
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    import convert
    import denoiser
    import vae
    steps = {"vae": vae.train, "encode": vae.encode, "denoiser": denoiser.train, "convert": convert.convert}
    for stage in STAGES if args.stage == "all" else (args.stage,):
        steps[stage](args)


if __name__ == "__main__":
    main()
