# SPDX-License-Identifier: Apache-2.0
#
# Checkpoints to the diffusers folder: FP16 safetensors and configs, in run/model; or, to see what the
# rounding costs, FP32 in run/model-fp32.
import shutil

import common
import denoiser
import tokens as vocabulary
import vae as autoencoder
from diffusers import FlowMatchEulerDiscreteScheduler

CLASSES = {
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
    "text_encoder": ("transformers", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "text_encoder_3": ("transformers", "T5EncoderModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "tokenizer_3": ("transformers", "T5TokenizerFast"),
    "transformer": ("diffusers", "SD3Transformer2DModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "image_encoder": (None, None),
    "feature_extractor": (None, None),
}


def convert(args):
    folder = args.run / "model"
    model = denoiser.Pocket(vocabulary.Tokens(folder))
    if args.fp32:
        folder, half = args.run / "model-fp32", folder
        for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
            shutil.copytree(half / name, folder / name, dirs_exist_ok=True)
    model.load_state_dict(common.load_checkpoint(args.run / "denoiser.pt")["average"])
    for name, part in (model if args.fp32 else model.half()).named_children():
        part.save_pretrained(folder / name)
    vae, shard = autoencoder.new_vae(), common.load_checkpoint(autoencoder.shard_path(args.run, 0))
    vae.load_state_dict(common.load_checkpoint(args.run / "vae.pt")["vae"])
    vae.register_to_config(scaling_factor=shard["scale"], shift_factor=shard["shift"])
    (vae if args.fp32 else vae.half()).save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(shift=denoiser.SHIFT).save_pretrained(folder / "scheduler")
    vocabulary.write_json(folder / "model_index.json", {"_class_name": "StableDiffusion3Pipeline", **CLASSES})
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder}: {size / 1e6:.2f} MB")
