# SPDX-License-Identifier: Apache-2.0
#
# Tokenizers of the captions' own vocabulary: byte-pair encoding for the CLIP encoders, Unigram for T5.
import collections
import json
import math

from transformers import CLIPTokenizer, T5TokenizerFast

import common
import world

CLIP_TOKENS = 20    # the longest caption has 16 words
T5_TOKENS = 20
START, END = "<|startoftext|>", "<|endoftext|>"
MARK = "\u2581"


def byte_symbols():
    """One printable character per byte, in the order of CLIP's ids."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def word_counts(scenes=20000):
    captions = (s["caption"] for s in world.draw_scenes(common.SEED, scenes))
    return collections.Counter(w for c in captions for w in c.split())


def join(symbols, pair):
    out, i = [], 0
    while i < len(symbols):
        both = tuple(symbols[i:i + 2]) == pair
        out.append("".join(pair) if both else symbols[i])
        i += 1 + both
    return out


def train_merges(counts):
    """Merge the most frequent pair until every word is one symbol; ties go to the smaller pair."""
    words = {w: [*w[:-1], w[-1] + "</w>"] for w in counts}
    merges = []
    while True:
        pairs = collections.Counter()
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            return merges
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        words = {w: join(s, best) for w, s in words.items()}


def write_clip(folder, counts, pad):
    merges = train_merges(counts)
    symbols = byte_symbols()
    vocabulary = symbols + [s + "</w>" for s in symbols] + ["".join(m) for m in merges] + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "vocab.json", {s: i for i, s in enumerate(vocabulary)})
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": CLIP_TOKENS, "do_lower_case": True, "errors": "replace",
        **special})


def write_t5(folder, counts):
    """Every word is a piece with its log-probability; single characters spell everything else."""
    total = sum(counts.values())
    pieces = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, MARK: -2.0}
    pieces |= {MARK + w: math.log(n / total) for w, n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))}
    pieces |= {chr(c): -14.0 for c in range(33, 127)}
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, t in enumerate(("<pad>", "</s>", "<unk>"))]
    spaces = {"type": "Metaspace", "replacement": MARK, "add_prefix_space": True, "prepend_scheme": "always"}
    template = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": MARK}]},
        "pre_tokenizer": spaces, "decoder": spaces,
        "post_processor": {"type": "TemplateProcessing", "single": template, "pair": template + template,
                           "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": False, "vocab": [[p, s] for p, s in pieces.items()]}})
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write_json(folder / "special_tokens_map.json", names)
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "T5TokenizerFast", "model_max_length": 512, "extra_ids": 0, "additional_special_tokens": [],
        "clean_up_tokenization_spaces": False, **names})


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


class Tokens:
    """The three tokenizers of a folder, written first when it has none."""

    def __init__(self, folder):
        if not (folder / "tokenizer_3" / "tokenizer_config.json").exists():
            counts = word_counts()
            write_clip(folder / "tokenizer", counts, END)
            write_clip(folder / "tokenizer_2", counts, "!")
            write_t5(folder / "tokenizer_3", counts)
        self.clip_l = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.clip_g = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        self.t5 = T5TokenizerFast.from_pretrained(folder / "tokenizer_3")

    def __call__(self, captions):
        """Ids [N, 20] for CLIP-L, CLIP-G, T5."""
        def ids(tokenizer, length):
            return tokenizer(captions, padding="max_length", max_length=length, truncation=True,
                             add_special_tokens=True, return_tensors="pt").input_ids
        return ids(self.clip_l, CLIP_TOKENS), ids(self.clip_g, CLIP_TOKENS), ids(self.t5, T5_TOKENS)
