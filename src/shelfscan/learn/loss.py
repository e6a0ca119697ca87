"""Task-aligned assignment and the loss: which cells answer for which box, and how wrong they are.

A cell's worth for a box is ``score^0.5 · IoU^6`` (as in TOOD and later one-stage detectors); the ten worthiest cells
inside a box answer for it, and the class target is that worth, scaled so that a box's best cell aims at its IoU.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from shelfscan.learn.net import CLASSES, boxes_of

TOP = 10


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of ``a`` (N, 4) with every box of ``b`` (M, 4), (N, M)."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area = (a[:, 2:] - a[:, :2]).prod(-1)[:, None] + (b[:, 2:] - b[:, :2]).prod(-1)[None]
    return inter / (area - inter).clamp(min=1e-6)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of paired boxes (N, 4), (N,)."""
    inter = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - inter
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    return inter / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, points: Tensor, truth: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """For one picture: the box each cell answers for (A,), -1 for none, and its target (A,).

    ``scores`` (A, CLASSES) in 0..1, ``boxes`` (A, 4), ``truth`` (N, 4), ``classes`` (N,).
    """
    a = points.shape[0]
    owner = torch.full((a,), -1, dtype=torch.long, device=points.device)
    target = torch.zeros(a, device=points.device)
    n = len(truth)
    if n == 0:
        return owner, target
    inside = ((points[None] > truth[:, None, :2]) & (points[None] < truth[:, None, 2:])).all(-1)  # (N, A)
    overlap = iou_matrix(truth, boxes) * inside
    worth = scores[:, classes].t().clamp(min=1e-4).sqrt() * overlap.clamp(min=1e-4).pow(6) * inside
    k = min(TOP, a)
    best = torch.zeros_like(inside)
    values, places = worth.topk(k, dim=1)
    best.scatter_(1, places, values > 0)
    clash = best.sum(0) > 1
    if clash.any():  # a cell answers for the box it fits best
        winner = torch.where(best, overlap, torch.full_like(overlap, -1.0))[:, clash].argmax(0)
        best[:, clash] = F.one_hot(winner, n).t().bool()
    chosen = best.any(0)
    owner[chosen] = best[:, chosen].float().argmax(0)
    worth = worth * best
    top = worth.amax(1, keepdim=True).clamp(min=1e-12)
    fit = (overlap * best).amax(1, keepdim=True)
    target[chosen] = (worth / top * fit).amax(0)[chosen]
    return owner, target


def loss(
    distances: Tensor, logits: Tensor, points: Tensor, strides: Tensor, truths: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Class and box loss of a batch; ``truths``: boxes (N, 4) and classes (N,) a picture, -1 to be ignored."""
    boxes = boxes_of(distances, points, strides)
    logits = logits.transpose(1, 2)
    scores = logits.detach().sigmoid()
    goal = torch.zeros_like(logits)
    weigh = torch.ones_like(logits)
    box_losses, weights = [], []
    for i, (truth, classes) in enumerate(truths):
        real = classes >= 0
        owner, target = assign(scores[i], boxes[i].detach(), points, truth[real], classes[real])
        pos = owner >= 0
        if (~real).any():
            vague = truth[~real]
            hit = ((points[None] > vague[:, None, :2]) & (points[None] < vague[:, None, 2:])).all(-1).any(0)
            if real.any():
                firm = truth[real]
                hit &= ~((points[None] > firm[:, None, :2]) & (points[None] < firm[:, None, 2:])).all(-1).any(0)
            weigh[i][hit & ~pos] = 0
        if pos.any():
            goal[i, pos, classes[real][owner[pos]]] = target[pos]
            box_losses.append((1 - giou(boxes[i, pos], truth[real][owner[pos]])) * target[pos])
            weights.append(target[pos])
    total = torch.cat(weights).sum().clamp(min=1.0) if weights else torch.tensor(1.0)
    # varifocal: easy background counts little, so that a shelf's many cells don't drown its boxes
    factor = torch.where(goal > 0, torch.ones_like(goal), 0.75 * scores.pow(2) + 0.02)
    cls = (F.binary_cross_entropy_with_logits(logits, goal, reduction="none") * weigh * factor).sum() / total
    box = torch.cat(box_losses).sum() / total if box_losses else distances.sum() * 0
    assert logits.shape[-1] == CLASSES
    return cls, box
