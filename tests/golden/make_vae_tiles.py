# SPDX-License-Identifier: Apache-2.0
#
# Make vae-tiles.safetensors: what huggingface/diffusers' AutoencoderKL decodes with enable_tiling(),
# in FP32 on the CPU, with the synthetic VAE that tests/tools/fabricate writes and tiles of 64 pixels.
#
#   python tests/golden/make_vae_tiles.py build/tests/tools/fabricate tests/golden
#
# Needs torch, diffusers, safetensors. Deterministic: one thread, CPU generator.

import pathlib
import subprocess
import sys
import tempfile

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

TILE_PIXELS = 64
ROWS, COLS = 13, 13  # latents: tiles begin at 0, 6 and 12; the last ones are smaller than an overlap


def main():
    program, out = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    z = torch.randn(1, 16, ROWS, COLS, generator=torch.Generator().manual_seed(5))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        subprocess.run([program, "--out", folder, "--layout", "diffusers", "--depth", "1",
                        "--dual-blocks", "0", "--seed", "0", "--dtype", "f16"], check=True)
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32,
                                            sample_size=TILE_PIXELS)
        whole = vae.decode(z).sample[0]
        vae.enable_tiling()
        image = vae.decode(z).sample[0]
    save_file({"z": z[0].contiguous(), "image": image.contiguous()}, out / "vae-tiles.safetensors")
    print(f"deviation {image.std():.3f}, of the difference from the whole {(image - whole).std():.3f}")


main()
