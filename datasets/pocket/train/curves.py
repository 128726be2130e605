# SPDX-License-Identifier: Apache-2.0
#
# Draws the losses of a run: vae-curve.png (PSNR of held-out images over steps) and
# denoiser-curve.png (loss over steps).
import argparse
import json
import pathlib

from PIL import Image, ImageDraw

WIDTH, HEIGHT, LEFT, EDGE = 720, 320, 60, 30


def draw(points, title, path):
    xs, ys = zip(*points)
    low, high = min(ys), max(ys)
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)

    def at(x, y):
        return (LEFT + (WIDTH - LEFT - EDGE) * x / max(xs), HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (y - low) / (high - low or 1))
    for k in range(5):
        y = low + (high - low) * k / 4
        pen.line([at(0, y), at(max(xs), y)], fill="#dddddd")
        pen.text((6, at(0, y)[1] - 6), f"{y:.3g}", fill="#444444")
        pen.text((at(max(xs) * k / 4, low)[0] - 10, HEIGHT - EDGE + 8), f"{max(xs) * k / 4:.0f}", fill="#444444")
    pen.line([at(x, y) for x, y in points], fill="#2846d7", width=2)
    pen.text((LEFT, 8), title, fill="black")
    image.save(path)


def main():
    parser = argparse.ArgumentParser(description="draw the losses of a run")
    parser.add_argument("--run", type=pathlib.Path, required=True)
    run = parser.parse_args().run
    for name, key, title in (("vae", "psnr", "VAE: PSNR of 16 held-out images (dB), over steps"),
                             ("denoiser", "loss", "denoiser: mean squared error of the velocity, over steps")):
        values = [json.loads(line) for line in open(run / f"{name}.jsonl")]
        steps, before, last = [], 0, 0
        for v in values:     # every phase of the VAE counts from 0
            if v["step"] < last:
                before += last
            last = v["step"]
            steps.append((before + last, v[key]))
        draw(steps, title, run / f"{name}-curve.png")


if __name__ == "__main__":
    main()
