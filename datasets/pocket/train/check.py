# SPDX-License-Identifier: Apache-2.0
#
# A quick look at prompt accuracy while training: which clauses of a caption a picture satisfies.
# Matches every patch of a group's colour against renderings of all shapes, sizes and fills.
#
#   python check.py --run DIR --count 64      the model's pictures of held-out captions
#   python check.py --clean 500               the renderer's own pictures: everything must hold
import argparse
import collections
import pathlib

import numpy as np
from scipy import ndimage

import world

NAMES = [*world.COLORS, "gray"]
PALETTE = np.array([*world.COLORS.values(), world.GRAY], float)
LEAST_PATCH = 20    # pixels; smaller patches are edges between two other colours


def color_map(image):
    """Index of the nearest colour of each pixel."""
    return ((image[:, :, None].astype(float) - PALETTE) ** 2).sum(-1).argmin(-1)


def template(shape, fill, x, y, side):
    cover, inner = world.stamps(shape, side)
    if fill != "plain":
        cover = cover * (1 - inner * world.holes(fill)[y:y + side, x:x + side])
    return cover > 0.5


def overlap(mask, box, shape, fill):
    x, y, side = box
    window = np.zeros_like(mask)
    window[y:y + side, x:x + side] = template(shape, fill, x, y, side)
    near = np.s_[max(y - 3, 0):y + side + 3, max(x - 3, 0):x + side + 3]
    a, b = mask[near], window[near]
    return (a & b).sum() / max((a | b).sum(), 1)


def recognise(mask, part):
    """(overlap, shape, size, fill) that explains one patch best."""
    ys, xs = part
    best = (0, None, None, None)
    for size, side in world.SIZES.items():
        for shape in world.SHAPES:
            for fill in world.FILLS:
                middle = ((xs.start + xs.stop - side) / 2, (ys.start + ys.stop - side) / 2)
                for dx in (-2, 0, 2):
                    for dy in (-2, 0, 2):
                        x, y = (int(np.clip(m + d, 0, world.SIDE - side)) for m, d in zip(middle, (dx, dy)))
                        best = max(best, (overlap(mask, (x, y, side), shape, fill), shape, size, fill), key=lambda b: b[0])
    return best


def find_group(colors, group):
    """Patches of the group's colour, each recognised, and the box around them all."""
    mask = colors == NAMES.index(group["color"])
    labels, _ = ndimage.label(ndimage.binary_closing(mask, np.ones((3, 3))) | mask, np.ones((3, 3)))
    parts = [p for i, p in enumerate(ndimage.find_objects(labels)) if (mask & (labels == i + 1))[p].sum() >= LEAST_PATCH]
    seen = [recognise(mask, p) for p in parts]
    return parts, seen


def holds(relation, first, second):
    def span(parts, axis):
        return min(p[axis].start for p in parts), max(p[axis].stop for p in parts)
    axis = 1 if relation in ("left of", "right of") else 0
    (a0, a1), (b0, b1) = span(first, axis), span(second, axis)
    return a1 <= b0 + 2 if relation in ("left of", "above") else b1 <= a0 + 2


def verdicts(image, scene):
    """Clause -> bool."""
    colors = color_map(image)
    counts = np.bincount(colors.ravel(), minlength=len(NAMES))
    out = {"background": NAMES[counts.argmax()] == scene["background"]}
    found = []
    for i, group in enumerate(scene["groups"]):
        parts, seen = find_group(colors, group)
        found.append(parts)
        out[f"color {i}"] = bool(parts)
        out[f"count {i}"] = len(parts) == group["count"]
        out[f"shape {i}"] = bool(seen) and all(s[1] == group["shape"] for s in seen)
        out[f"fill {i}"] = bool(seen) and all(s[3] == group["fill"] for s in seen)
        if group["size_named"]:
            out[f"size {i}"] = bool(seen) and all(s[2] == group["size"] for s in seen)
    if scene["relation"]:
        out["relation"] = all(found) and holds(scene["relation"], *found)
    return out


def report(images, scenes):
    clauses, whole = collections.defaultdict(list), []
    for image, scene in zip(images, scenes):
        v = verdicts(image, scene)
        whole.append(all(v.values()))
        for clause, good in v.items():
            clauses[clause.split()[0]].append(good)
    for clause, good in clauses.items():
        print(f"{clause:10s} {np.mean(good):.3f} of {len(good)}")
    print(f"clauses    {np.mean(sum(clauses.values(), [])):.3f}\ncaptions   {np.mean(whole):.3f} of {len(whole)}")
    return whole


def main():
    parser = argparse.ArgumentParser(description="prompt accuracy")
    parser.add_argument("--run", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--clean", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.clean:
        scenes = list(world.draw_scenes(3, args.clean))
        good = report([world.render(s) for s in scenes], scenes)
        print(*(s["caption"] for s, g in zip(scenes, good) if not g), sep="\n")
        return
    import common
    import denoiser
    import tokens as vocabulary
    import torch
    torch.set_num_threads(args.threads)
    scenes = list(world.draw_scenes(5, args.count, held_out=True))
    images = denoiser.draw(args.run, [s["caption"] for s in scenes], args.guidance)
    common.save_sheet(images, args.run / "check.png")
    report(images, scenes)


if __name__ == "__main__":
    main()
