"""The detector's loss; it lives in the package because stores train with it too."""

from shelfscan.learn.loss import TOP, assign, giou, iou_matrix, loss

__all__ = ["TOP", "assign", "giou", "iou_matrix", "loss"]
