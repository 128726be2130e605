# SPDX-License-Identifier: Apache-2.0
#
# What a scene says, as class numbers: teachers of the training, no part of the model.
#
#   of a caption's words   the attributes of the group that the word belongs to
#   of the image's tokens  the attributes of the group that covers most of the token
import numpy as np

import world

COLORS = list(world.COLORS)
SIZES = list(world.SIZES)
WORDS = 20                      # T5's rows; word i is token i
CELL = 16                       # pixels of an image token's side
SIDE = world.SIDE // CELL

# Attribute -> number of classes. Of a word, "no group" is not needed: every word has one.
WORD_CLASSES = {"color": 8, "shape": 6, "fill": 3, "size": 4, "count": 4, "role": 5, "background": 9}
COUNT = list(WORD_CLASSES).index("count")
TOKEN_CLASSES = {"color": 9, "shape": 7, "fill": 4, "size": 4}
ROLES = {"left of": (1, 2), "right of": (2, 1), "above": (3, 4), "below": (4, 3)}


def word_labels(scene):
    """[words, attributes], -1 behind the groups' words."""
    roles = ROLES.get(scene["relation"], (0, 0))
    background = COLORS.index(scene["background"]) if scene["background"] in COLORS else 8
    labels = np.full((WORDS, len(WORD_CLASSES)), -1, np.int8)
    at = 0
    for i, group in enumerate(scene["groups"]):
        words = len(world.group_words(group)) + (len(scene["relation"].split()) if i else 0)
        size = SIZES.index(group["size"]) + 1 if group["size_named"] else 0
        labels[at:at + words] = (COLORS.index(group["color"]), world.SHAPES.index(group["shape"]),
                                 world.FILLS.index(group["fill"]), size, group["count"] - 1, roles[i], background)
        at += words
    return labels


def token_labels(scene):
    """[image tokens, attributes]; 0 where no group is."""
    labels = np.zeros((SIDE, SIDE, len(TOKEN_CLASSES)), np.int8)
    most = np.zeros((SIDE, SIDE), np.int64)
    edge = np.arange(SIDE) * CELL
    for group in scene["groups"]:
        values = (COLORS.index(group["color"]) + 1, world.SHAPES.index(group["shape"]) + 1,
                  world.FILLS.index(group["fill"]) + 1, SIZES.index(group["size"]) + 1)
        for x, y, side in group["boxes"]:
            wide, high = (np.clip(np.minimum(edge + CELL, v + side) - np.maximum(edge, v), 0, None) for v in (x, y))
            area = high[:, None] * wide[None, :]
            labels[area > most] = values
            most = np.maximum(most, area)
    return labels.reshape(SIDE * SIDE, -1)
