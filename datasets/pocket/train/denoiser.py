# SPDX-License-Identifier: Apache-2.0
#
# The denoiser and the three text encoders: one model, trained together from nothing by flow
# matching. The modules are the very classes the diffusers folder names, at pocket size.
import time

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

import common
import labels
import optimizer
import tokens as vocabulary
import vae as autoencoder
import world

LATENT_SIDE = world.SIDE // 8
TABLE_SIDE = 12         # of the stored position table: images of up to 192 pixels
SHIFT = 3.0             # of the noise schedule


def new_clip(activation, vocabulary_size, pad):
    end = vocabulary_size - 1
    return CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=vocabulary_size, hidden_size=128, intermediate_size=256, projection_dim=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=vocabulary.CLIP_TOKENS, hidden_act=activation,
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=pad))


def new_t5(vocabulary_size):
    return T5EncoderModel(T5Config(
        vocab_size=vocabulary_size, d_model=256, d_kv=64, num_heads=2, d_ff=128, num_layers=2, dropout_rate=0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False))


def new_transformer():
    model = SD3Transformer2DModel(
        sample_size=LATENT_SIDE, patch_size=2, in_channels=16, out_channels=16, num_layers=4, attention_head_dim=64,
        num_attention_heads=4, joint_attention_dim=256, caption_projection_dim=256, pooled_projection_dim=256,
        pos_embed_max_size=TABLE_SIDE, dual_attention_layers=(0,), qk_norm="rms_norm")
    table = get_2d_sincos_pos_embed(256, TABLE_SIDE, base_size=TABLE_SIDE, output_type="pt")    # positions 0, 1, 2, ...
    model.pos_embed.pos_embed = table.float().unsqueeze(0)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
            if name.endswith(("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out")):
                nn.init.zeros_(layer.weight)     # every block starts as the identity
    return model


class Pocket(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.text_encoder = new_clip("quick_gelu", len(tokens.clip_l), tokens.clip_l.pad_token_id)
        self.text_encoder_2 = new_clip("gelu", len(tokens.clip_g), tokens.clip_g.pad_token_id)
        self.text_encoder_3 = new_t5(len(tokens.t5))
        self.transformer = new_transformer()

    def texts(self):
        """The three encoders' parameters."""
        return [p for name, p in self.named_parameters() if name.startswith("text_encoder")]

    def encode(self, ids):
        """Context [N, 40, 256] and pooled [N, 256], laid out as SD3.5's pipeline does."""
        clips = [m(i, output_hidden_states=True) for m, i in zip((self.text_encoder, self.text_encoder_2), ids)]
        sequence = torch.cat([c.hidden_states[-2] for c in clips], -1)
        context = torch.cat([sequence, self.text_encoder_3(ids[2]).last_hidden_state], 1)
        return context, torch.cat([c.text_embeds for c in clips], -1)

    def forward(self, latents, sigmas, ids):
        context, pooled = self.encode(ids)
        return self.transformer(latents, context, pooled, 1000 * sigmas, return_dict=False)[0]


class Teachers(nn.Module):
    """Linear readings of what the features know, thrown away after training.

    Velocities alone teach slowly which word means what; these say it outright: T5's rows name the attributes
    of their group, CLIP's pooled vector those of the first group, and the image's tokens behind block READ what will
    stand there, as far as can be known at their noise (compare REPA, Yu et al. 2024).
    """
    READ = 1

    def __init__(self, model):
        super().__init__()
        words, tokens = (sum(c.values()) for c in (labels.WORD_CLASSES, labels.TOKEN_CLASSES))
        self.word, self.pooled, self.token = nn.Linear(256, words), nn.Linear(256, words), nn.Linear(256, tokens)
        self.seen = {}
        model.transformer.transformer_blocks[self.READ].register_forward_hook(
            lambda _, __, out: self.seen.update(tokens=out[1]))

    def of_text(self, context, pooled, words):
        return (cross_entropies(self.word(context[:, vocabulary.CLIP_TOKENS:]), words, labels.WORD_CLASSES)
                + cross_entropies(self.pooled(pooled), words[:, 0], labels.WORD_CLASSES))

    def of_image(self, tokens):
        return cross_entropies(self.token(self.seen["tokens"]), tokens, labels.TOKEN_CLASSES)


def cross_entropies(logits, targets, classes):
    """Sum over the attributes; -1 does not count. logits [..., all classes], targets [..., attributes]."""
    parts = logits.float().flatten(0, -2).split(list(classes.values()), -1)
    targets = targets.flatten(0, -2).long()
    return sum(functional.cross_entropy(p, targets[:, i], ignore_index=-1) for i, p in enumerate(parts))


def shift(u, by=SHIFT):
    return by * u / (1 + (by - 1) * u)


def schedule(steps):
    """Sigmas of diffusers' Euler scheduler: the bottom end is shifted twice."""
    return torch.cat([shift(torch.linspace(1, shift(0.001), steps, dtype=torch.float64)).float(), torch.zeros(1)])


@torch.no_grad()
def sample(model, ids, empty, guidance, device, steps=28, seed=0):
    """Latents [N, 16, 16, 16] of the captions behind `ids`."""
    count = len(ids[0])
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 16, LATENT_SIDE, LATENT_SIDE, generator=generator).to(device)
    with common.autocast(device):
        both = tuple(torch.cat([e.expand(count, -1), i]).to(device) for e, i in zip(empty, ids))
        context, pooled = model.encode(both)
        sigmas = schedule(steps).to(device)
        for now, after in zip(sigmas, sigmas[1:]):
            v = model.transformer(x.repeat(2, 1, 1, 1), context, pooled, (1000 * now).expand(2 * count),
                                  return_dict=False)[0].float()
            free, told = v.chunk(2)
            x = x + (after - now) * (free + guidance * (told - free))
    return x


@torch.no_grad()
def decode(vae, latents, scale, shift_factor):
    """Bytes [N, H, W, 3]."""
    return common.to_bytes(vae.decode(latents.float() / scale + shift_factor).sample)


class Latents:
    """The shards encoded so far; more of them may appear while training goes on."""

    def __init__(self, run, tokens, device, crowded):
        self.run, self.tokenize, self.device, self.shards = run, tokens, device, 0
        self.crowded = crowded  # how much likelier a scene is picked that has a group of three or four
        self.columns = None     # latents, words, tokens, ids of the three tokenizers
        self.refresh()

    def refresh(self):
        while (path := autoencoder.shard_path(self.run, self.shards)).exists():
            shard = common.load_checkpoint(path)
            new = [c.to(self.device) for c in (shard["latents"], shard["words"], shard["tokens"], *self.tokenize(shard["captions"]))]
            self.columns = [torch.cat(both) for both in zip(self.columns, new)] if self.columns else new
            self.scale, self.shift = shard["scale"], shard["shift"]
            self.shards += 1
        counts = self.columns[1][..., labels.COUNT].amax(1)     # 0 is one
        self.chances = torch.where(counts >= 2, self.crowded, 1.0)

    def batch(self, count):
        """Latents, word labels, token labels, ids."""
        picks = torch.multinomial(self.chances, count, replacement=True)
        latents, words, tokens, *ids = (c[picks] for c in self.columns)
        return latents.float(), words, tokens, ids


def is_matrix(name, p):
    """Muon's: the matrices inside the blocks."""
    return p.ndim == 2 and "transformer_blocks" in name and "norm1" not in name


def share_at(step, args):
    """Of the learning rate: warm-up, constant, linear decay over the last part."""
    return min(1, (step + 1) / args.warmup, max(0.01, (1 - step / args.steps) / args.decay))


def loss_of(model, teachers, batch, empty, device, args):
    """(velocity, what the teachers add) at random times; one caption in ten is the empty one."""
    latents, words, tokens, ids = batch
    count = len(latents)
    sigmas = shift(torch.sigmoid(torch.randn(count, device=device)), args.time_shift)
    noise = torch.randn_like(latents)
    drop = (torch.rand(count, device=device) < 0.1)[:, None]
    ids = tuple(torch.where(drop, e, i) for e, i in zip(empty, ids))
    words = torch.where(drop[..., None], -1, words)
    s = sigmas[:, None, None, None]
    with common.autocast(device):
        context, pooled = model.encode(ids)
        v = model.transformer((1 - s) * latents + s * noise, context, pooled, 1000 * sigmas, return_dict=False)[0]
        taught = args.teach_text * teachers.of_text(context, pooled, words) + args.teach_image * teachers.of_image(tokens)
    return (v.float() - (noise - latents)).square().mean(), taught


def teach_texts(model, teachers, data, device, args):
    """The encoders alone learn to read, which takes a minute and saves the denoiser many."""
    parameters = [*model.texts(), *teachers.parameters()]
    adam = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.97))
    for step in range(args.text_steps):
        adam.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50, (args.text_steps - step) / args.text_steps + 0.1)
        _, words, _, ids = data.batch(256)
        with common.autocast(device):
            loss = teachers.of_text(*model.encode(ids), words)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0:
            common.log(args.run, "texts", step=step + 1, loss=loss.item())


def train(args):
    device, run = common.pick_device(), args.run
    rank, workers = common.join_workers()
    common.tune_attention(device)
    torch.manual_seed(common.SEED)
    tokens = vocabulary.Tokens(run / "model")
    model, average = Pocket(tokens).to(device), Pocket(tokens).to(device).eval()
    teachers = Teachers(model).to(device)
    data, empty = Latents(run, tokens, device, args.crowded), [e.to(device) for e in tokens([""])]
    both = nn.ModuleDict({"model": model, "teachers": teachers})
    optimizers = optimizer.make(both, is_matrix, args.lr, args.adam_lr, 0.01)
    state = common.load_checkpoint(run / "denoiser.pt")
    first, seconds = 0, 0.0
    if state:
        both.load_state_dict(state["both"])
        for o, saved in zip(optimizers, state["optimizers"]):
            o.load_state_dict(saved)
        first, seconds = state["step"], state["seconds"]
    else:
        teach_texts(model, teachers, data, device, args)
    average.load_state_dict(state["average"] if state else model.state_dict())
    if args.compile:
        model.transformer.compile()
    torch.manual_seed(common.SEED + first * workers + rank)
    parameters = list(both.parameters())
    start, losses = time.time() - seconds, []
    for step in range(first, args.steps):
        optimizer.set_rate(optimizers, share_at(step, args))
        loss, taught = loss_of(model, teachers, data.batch(args.batch), empty, device, args)
        (loss + taught).backward()
        common.average_gradients(parameters, workers)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step(optimizers)
        keep = min(args.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        losses.append(torch.stack([loss.detach(), taught.detach()]))
        last = step + 1 == args.steps
        if ((step + 1) % args.every == 0 or last) and rank == 0:
            velocity, lesson = torch.stack(losses).mean(0).tolist()
            common.log(run, "denoiser", step=step + 1, loss=velocity, taught=lesson, seconds=time.time() - start,
                       shards=data.shards)
            common.save_checkpoint({
                "both": both.state_dict(), "average": average.state_dict(), "step": step + 1,
                "optimizers": [o.state_dict() for o in optimizers], "seconds": time.time() - start}, run / "denoiser.pt")
        if (step + 1) % args.every == 0:
            losses = []
            data.refresh()
        if ((step + 1) % args.sheet_every == 0 or last) and rank == 0:
            sheet(average, tokens, data, args, f"sheet-{step + 1:06d}.png", device)


def sheet(model, tokens, data, args, name, device):
    """Sixteen held-out captions, always the same, as a picture and a text file."""
    captions = [s["caption"] for s in world.draw_scenes(11, 16, held_out=True)]
    latents = sample(model, tokens(captions), tokens([""]), args.guidance, device)
    vae = autoencoder.load_vae(args.run, device)
    common.save_sheet(decode(vae, latents, data.scale, data.shift), args.run / name)
    (args.run / "sheet.txt").write_text("\n".join(captions) + "\n")


def draw(run, captions, guidance, batch=16):
    """Bytes [N, H, W, 3] of the averaged model, from the checkpoints of a run."""
    device = common.pick_device()
    tokens = vocabulary.Tokens(run / "model")
    model = Pocket(tokens).to(device).eval()
    model.load_state_dict(common.load_checkpoint(run / "denoiser.pt")["average"])
    vae, shard = autoencoder.load_vae(run, device), common.load_checkpoint(autoencoder.shard_path(run, 0))
    images = []
    for at in range(0, len(captions), batch):
        latents = sample(model, tokens(captions[at:at + batch]), tokens([""]), guidance, device, seed=at)
        images.extend(decode(vae, latents, shard["scale"], shard["shift"]))
    return images
