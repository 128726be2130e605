# SPDX-License-Identifier: Apache-2.0
#
# Make the golden files of this folder: what huggingface/diffusers' own StableDiffusion3Pipeline does,
# in FP32 on the CPU, with the synthetic models that tests/tools/fabricate writes, and with the
# trained model in datasets/pocket (or POCKET).
#
#   python tests/golden/make_golden.py build/tests/tools/fabricate tests/golden [case ...]
#
# Needs torch, diffusers, transformers, safetensors. Deterministic: one thread, CPU generator.

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusion3Pipeline
from safetensors.torch import save_file

CONTEXT_ROWS = [0, 1, 5, 40, 76, 77, 78, 120]  # of prompt_embeds; kept to tell where things go wrong

LONG_PROMPT = " ".join(["A bright photo of the small house, 35mm, with a red tree…"] * 8)

# Every case states all of the run. The model part is what fabricate is told.
DEFAULTS = {
    "negative": "", "seed": 1, "steps": 5, "cfg": 4.0, "sampler": "euler",
    "width": 64, "height": 64, "t5_tokens": 256,
    "depth": 2, "dual_blocks": 0, "weights_seed": 0, "dtype": "f16",
    "has_outliers": False, "lacks_t5": False,
}

# The trained model: captions that it never saw, the guidance that octavo-render defaults to. Few
# latents are kept: the noise, and those after half of the steps, the last but one and the last.
POCKET = {
    "model": "pocket", "steps": 28, "cfg": 4.5, "width": 128, "height": 128, "t5_tokens": 20,
    "context_rows": [0, 1, 5, 12, 19, 20, 23, 39], "latent_steps": [0, 14, 27, 28],
}
POCKET_CAPTIONS = [
    "two medium black circles",
    "four small orange stars above four striped white diamonds on a blue background",
    "a large dotted purple star left of two large striped red squares on a blue background",
    "a small green diamond on a white background",
    "two large red crosses below two small yellow triangles on a blue background",
    "three small orange circles below two white triangles",
    "four medium dotted yellow circles on a purple background",
    "two yellow crosses",
]

CASES = {
    "euler": {"prompt": "a photo of a cat holding a sign that says hello world"},
    "euler-wide": {"prompt": "golden city at night", "negative": "old, dark", "seed": 2**32 + 5,
                   "width": 96, "height": 64, "cfg": 7.0, "steps": 4,
                   "depth": 4, "dual_blocks": 2},
    "euler-tall-no-t5": {"prompt": "a dog on the stone bridge", "seed": 3, "width": 64, "height": 112,
                         "cfg": 3.5, "steps": 4, "lacks_t5": True, "dtype": "f32"},
    "euler-no-cfg": {"prompt": "a yellow flower", "seed": 42, "cfg": 1.0, "steps": 4, "dtype": "bf16",
                     "weights_seed": 7},
    "euler-long-prompt": {"prompt": LONG_PROMPT, "negative": "Black\tand WHITE", "t5_tokens": 77,
                          "depth": 3, "dual_blocks": 3, "steps": 4, "has_outliers": True},
    "euler-slg": {"prompt": "a portrait of the old man with a hat", "seed": 11, "steps": 6, "cfg": 5.0,
                  "depth": 4, "dual_blocks": 2,
                  "slg": {"layers": [1, 2], "scale": 2.8, "start": 0.01, "stop": 0.5}},
    "dpmpp": {"prompt": "winter morning, wooden boat on the river", "seed": 23, "steps": 6,
              "sampler": "dpmpp-2m-diffusers"},
    "dpmpp-wide-no-cfg": {"prompt": "", "seed": 7, "steps": 5, "cfg": 0.0, "width": 80, "height": 48,
                          "sampler": "dpmpp-2m-diffusers", "depth": 4, "dual_blocks": 1},
    **{f"pocket-{i + 1}": {**POCKET, "prompt": caption, "seed": 100 + i}
       for i, caption in enumerate(POCKET_CAPTIONS)},
}


def fabricate(program, case, folder):
    command = [program, "--out", folder, "--layout", "diffusers",
               "--depth", str(case["depth"]), "--dual-blocks", str(case["dual_blocks"]),
               "--seed", str(case["weights_seed"]), "--dtype", case["dtype"]]
    if case["has_outliers"]:
        command.append("--outliers")
    if case["lacks_t5"]:
        command.append("--no-t5")
    subprocess.run(command, check=True)


def load(folder, case):
    absent = {"text_encoder_3": None, "tokenizer_3": None} if case["lacks_t5"] else {}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32, **absent)
    if case["sampler"] == "dpmpp-2m-diffusers":
        pipeline.scheduler = DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run(pipeline, case):
    tensors = {}
    latents = []

    def encode(text):
        context, _, pooled, _ = pipeline.encode_prompt(
            text, None, None, do_classifier_free_guidance=False,
            max_sequence_length=case["t5_tokens"])
        return context[0, case["context_rows"]], pooled[0]

    def keep(_pipeline, _step, _time, values):
        latents.append(values["latents"][0].clone())
        return {}

    for branch, text in (("positive", case["prompt"]), ("negative", case["negative"])):
        tensors[f"context_{branch}"], tensors[f"pooled_{branch}"] = encode(text)
    generator = torch.Generator().manual_seed(case["seed"])
    latents.append(torch.randn(1, 16, case["height"] // 8, case["width"] // 8, generator=generator)[0])
    slg = case.get("slg")
    guidance = {} if slg is None else {
        "skip_guidance_layers": slg["layers"], "skip_layer_guidance_scale": slg["scale"],
        "skip_layer_guidance_start": slg["start"], "skip_layer_guidance_stop": slg["stop"]}
    image = pipeline(
        case["prompt"], negative_prompt=case["negative"], num_inference_steps=case["steps"],
        guidance_scale=case["cfg"], width=case["width"], height=case["height"],
        generator=torch.Generator().manual_seed(case["seed"]),
        max_sequence_length=case["t5_tokens"], callback_on_step_end=keep, **guidance).images[0]
    kept = case.get("latent_steps", range(len(latents)))
    tensors["latents"] = torch.stack([latents[i] for i in kept])
    tensors["image"] = torch.from_numpy(numpy.array(image))
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def main():
    program, out = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2])
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in sys.argv[3:] or CASES:
        case = {"name": name, **DEFAULTS, "context_rows": CONTEXT_ROWS, **CASES[name]}
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            if case.get("model") == "pocket":
                folder = os.environ.get("POCKET", "datasets/pocket")
            else:
                fabricate(program, case, folder)
            tensors = run(load(folder, case), case)
        # One entry: the library does not keep the order of several.
        save_file(tensors, out / f"{name}.safetensors",
                  {"case": json.dumps(case, ensure_ascii=False)})
        image = tensors["image"].float()
        print(f"{name}: latent deviation {tensors['latents'][-1].std():.3f}, "
              f"image mean {image.mean():.1f}, deviation {image.std():.1f}, "
              f"clipped {((image == 0) | (image == 255)).float().mean():.3f}")


main()
