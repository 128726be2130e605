# SPDX-License-Identifier: Apache-2.0
#
# Muon for the matrices inside a network (convolutions count as matrices of [outputs, inputs x taps]),
# AdamW for everything else. Muon: the momentum, made orthogonal by five Newton-Schulz steps
# (Jordan et al. 2024), scaled so that its root mean square is that of an AdamW step (Liu et al. 2025).
import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix):
    """Nearly U V^T of the matrix's singular value decomposition."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, rate, weight_decay=0.0):
        super().__init__(parameters, {"lr": rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                update = orthogonal(p.grad.lerp(momentum, 0.95).flatten(1)).view_as(p)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape[0], p[0].numel()) ** 0.5)


def make(model, is_matrix, rate, adam_rate, weight_decay=0.0):
    """[Muon, AdamW]; is_matrix(name, parameter) picks Muon's."""
    matrices, rest = [], []
    for name, p in model.named_parameters():
        (matrices if is_matrix(name, p) else rest).append(p)
    optimizers = [Muon(matrices, rate, weight_decay), torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.97), weight_decay=weight_decay)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def set_rate(optimizers, share):
    """Learning rates as a share of their peaks."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak"]


def step(optimizers):
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
