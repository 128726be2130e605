# SPDX-License-Identifier: Apache-2.0
#
# The pocket world: captions, their clauses, and the pictures that satisfy them.
#
# README.md, "The world", is the specification of this file; the judge is written from it.
#
#   python world.py --out DIR --count N --seed S [--held-out]
#
# writes DIR/00000.png ... and DIR/scenes.jsonl, one scene a line.
import argparse
import functools
import json
import pathlib
import random
import zlib

import numpy as np

SIDE = 128      # image side in pixels
MARGIN = 4      # between the image border and any shape's box
GAP = 8         # between the boxes of two shapes
GRID = 4        # boxes start at multiples of this
OUTLINE = 2     # width of the closed border of striped and dotted shapes
PERIOD = 8      # of stripes and dots, anchored at the image corner
DOT_RADIUS = 2.5

COLORS = {
    "red": (205, 30, 40), "green": (30, 150, 60), "blue": (40, 70, 215), "yellow": (250, 220, 60),
    "orange": (250, 135, 20), "purple": (140, 50, 170), "black": (20, 20, 20), "white": (250, 250, 250),
}
GRAY = (160, 160, 160)   # the background when the caption names none
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross")
SIZES = {"small": 16, "medium": 28, "large": 40}
FILLS = ("plain", "striped", "dotted")
COUNTS = ("a", "two", "three", "four")
RELATIONS = ("left of", "right of", "above", "below")


# Captions ---------------------------------------------------------------------------------

def plural(shape):
    return shape + ("es" if shape == "cross" else "s")


def group_words(group):
    adjectives = [group["size"]] if group["size_named"] else []
    adjectives += [group["fill"]] if group["fill"] != "plain" else []
    adjectives += [group["color"]]
    if group["count"] == 1:
        article = "an" if adjectives[0][0] in "aeiou" else "a"
        return [article, *adjectives, group["shape"]]
    return [COUNTS[group["count"] - 1], *adjectives, plural(group["shape"])]


def caption_of(scene):
    words = group_words(scene["groups"][0])
    if scene["relation"]:
        words += [scene["relation"], *group_words(scene["groups"][1])]
    if scene["background"] != "gray":
        words += ["on a" + ("n" if scene["background"][0] in "aeiou" else ""), scene["background"], "background"]
    return " ".join(words)


def is_held_out(caption):
    """One caption in 16 is never trained on."""
    return zlib.crc32(caption.encode()) % 16 == 0


def draw_group(rng, taken):
    size = rng.choice(list(SIZES))
    fill = "plain" if size == "small" else rng.choices(FILLS, (2, 1, 1))[0]
    return {
        "count": rng.choices((1, 2, 3, 4), (4, 3, 2, 2))[0], "size": size, "size_named": rng.random() < 0.75,
        "fill": fill, "color": rng.choice([c for c in COLORS if c not in taken]), "shape": rng.choice(SHAPES),
    }


def draw_scene(rng):
    """A scene whose shapes fit; places are drawn with it, under "boxes" of each group."""
    while True:
        background = rng.choice(list(COLORS)) if rng.random() < 0.6 else "gray"
        groups = [draw_group(rng, (background,))]
        relation = None
        if rng.random() < 0.55:
            groups.append(draw_group(rng, (background, groups[0]["color"])))
            relation = rng.choice(RELATIONS)
        scene = {"groups": groups, "relation": relation, "background": background}
        if place(scene, rng):
            scene["caption"] = caption_of(scene)
            return scene


def draw_scenes(seed, count, held_out=False):
    rng = random.Random(seed)
    while count:
        scene = draw_scene(rng)
        if is_held_out(scene["caption"]) == held_out:
            count -= 1
            yield scene


# Placement --------------------------------------------------------------------------------

def block_cells(count, size, along_y):
    """Boxes of one group, relative to the block: [(x, y)], block width, block height."""
    pitch = size + GAP
    if count == 4 or count * pitch - GAP > SIDE - 2 * MARGIN:
        cells = [(0, 0), (pitch, 0), (0, pitch), (pitch, pitch)][:count]
    else:
        cells = [(0, i * pitch) if along_y else (i * pitch, 0) for i in range(count)]
    return cells, max(x for x, _ in cells) + size, max(y for _, y in cells) + size


def place(scene, rng):
    """Give every group its "boxes" [x, y, side]; False when they do not fit."""
    relation, groups = scene["relation"], scene["groups"]
    side_by_side = relation in ("left of", "right of") if relation else rng.random() < 0.5
    blocks = [block_cells(g["count"], SIZES[g["size"]], side_by_side) for g in groups]
    extents = [(w, h) if side_by_side else (h, w) for _, w, h in blocks]
    slack = SIDE - 2 * MARGIN - sum(e[0] for e in extents) - GAP * (len(groups) - 1)
    if slack < 0:
        return False
    order = [1, 0] if relation in ("right of", "below") else list(range(len(groups)))
    cuts = sorted(rng.randrange(slack // GRID + 1) * GRID for _ in groups)
    at = 0
    for i, cut in zip(order, cuts):
        main = MARGIN + cut + at
        cross = MARGIN + rng.randrange((SIDE - 2 * MARGIN - extents[i][1]) // GRID + 1) * GRID
        x, y = (main, cross) if side_by_side else (cross, main)
        groups[i]["boxes"] = [[x + cx, y + cy, SIZES[groups[i]["size"]]] for cx, cy in blocks[i][0]]
        at += extents[i][0] + GAP
    return True


# Rendering --------------------------------------------------------------------------------

def corners(shape, r):
    """Polygon around the origin, y down."""
    if shape == "square":
        return [(-r, -r), (r, -r), (r, r), (-r, r)]
    if shape == "triangle":
        return [(0, -r), (r, r), (-r, r)]
    if shape == "diamond":
        return [(0, -r), (r, 0), (0, r), (-r, 0)]
    if shape == "star":
        turns = [np.deg2rad(36 * k - 90) for k in range(10)]
        return [(np.cos(a) * r * (1 - k % 2 / 2), np.sin(a) * r * (1 - k % 2 / 2)) for k, a in enumerate(turns)]
    q = 0.35 * r    # cross: half the width of a bar
    return [(-q, -r), (q, -r), (q, -q), (r, -q), (r, q), (q, q), (q, r), (-q, r), (-q, q), (-r, q), (-r, -q), (-q, -q)]


def distance(shape, side):
    """Signed distance in pixels to the outline, negative inside, on side x side pixel centres."""
    r = side / 2
    y, x = np.mgrid[0:side, 0:side] + 0.5 - r
    if shape == "circle":
        return np.hypot(x, y) - r
    points = corners(shape, r)
    nearest, inside = np.full((side, side), np.inf), np.zeros((side, side), bool)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
        ex, ey = bx - ax, by - ay
        t = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - t * ex, y - ay - t * ey))
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / ey)
    return np.where(inside, -nearest, nearest)


@functools.cache
def stamps(shape, side):
    """Coverage of the whole shape and of its part inside the outline."""
    d = distance(shape, side)
    return np.clip(0.5 - d, 0, 1), np.clip(0.5 - (d + OUTLINE), 0, 1)


@functools.cache
def holes(fill):
    """Where the background shows through the part inside the outline, over the whole image."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    if fill == "striped":
        return (y % PERIOD >= PERIOD / 2).astype(float)
    middle = PERIOD / 2
    return np.clip(0.5 + DOT_RADIUS - np.hypot(x % PERIOD - middle, y % PERIOD - middle), 0, 1)


def render(scene):
    """[SIDE, SIDE, 3] bytes."""
    image = np.empty((SIDE, SIDE, 3))
    image[:] = COLORS.get(scene["background"], GRAY)
    for group in scene["groups"]:
        color = np.array(COLORS[group["color"]], float)
        for x, y, side in group["boxes"]:
            cover, inner = stamps(group["shape"], side)
            part = np.s_[y:y + side, x:x + side]
            if group["fill"] != "plain":
                cover = cover * (1 - inner * holes(group["fill"])[part])
            image[part] += cover[..., None] * (color - image[part])
    return np.rint(image).astype(np.uint8)


def main():
    from PIL import Image
    parser = argparse.ArgumentParser(description="write scenes as PNG files and scenes.jsonl")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="captions that training never sees")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "scenes.jsonl", "w") as lines:
        for i, scene in enumerate(draw_scenes(args.seed, args.count, args.held_out)):
            name = f"{i:05d}.png"
            Image.fromarray(render(scene)).save(args.out / name)
            lines.write(json.dumps({"image": name, **scene}) + "\n")


if __name__ == "__main__":
    main()
