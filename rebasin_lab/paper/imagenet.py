"""Curves on ImageNet that the authors of Git Re-Basin published as numbers.

Two ResNet50 (one downloaded, one of their own), on the 50,000 validation images, at 25 equally
spaced lambdas from A (0) to B (1), BatchNorm statistics re-estimated at each; from the script that
draws Figs. 2, 8 and 12 of Ainsworth et al. 2022. They ran OT-Fusion (Singh and Jaggi 2020), too.
"""

import numpy as np
from jaxtyping import Float

# One line a lambda: loss (nats) naive and weight matching; top-1 accuracy naive, weight matching
# and OT-Fusion; top-5 accuracy likewise.
_IMAGENET = """
0.9561 0.9565 0.7623 0.7619 0.7620 0.9300 0.9298 0.9301
0.9511 0.9515 0.7612 0.7630 0.7616 0.9293 0.9294 0.9290
0.9667 0.9564 0.7561 0.7604 0.7581 0.9278 0.9280 0.9273
1.0153 0.9756 0.7456 0.7542 0.7496 0.9220 0.9258 0.9237
1.1311 1.0162 0.7250 0.7447 0.7362 0.9096 0.9203 0.9160
1.3866 1.0845 0.6886 0.7278 0.7118 0.8880 0.9116 0.9032
1.9164 1.1932 0.6225 0.7057 0.6706 0.8437 0.9003 0.8777
2.9385 1.3599 0.4956 0.6745 0.5909 0.7396 0.8830 0.8233
4.4329 1.5843 0.2704 0.6324 0.4489 0.4952 0.8587 0.7037
5.8734 1.8526 0.0595 0.5848 0.2278 0.1565 0.8305 0.4515
6.7539 2.1132 0.0069 0.5415 0.0629 0.0256 0.7993 0.1705
7.0801 2.2804 0.0022 0.5138 0.0180 0.0083 0.7780 0.0594
7.1439 2.3146 0.0015 0.5101 0.0137 0.0078 0.7742 0.0479
6.9954 2.1941 0.0026 0.5304 0.0320 0.0125 0.7902 0.0993
6.4036 1.9773 0.0194 0.5699 0.1325 0.0626 0.8164 0.2992
5.2233 1.7210 0.1432 0.6153 0.3441 0.3098 0.8463 0.5936
3.7654 1.4804 0.3732 0.6558 0.5241 0.6147 0.8715 0.7721
2.5452 1.2948 0.5416 0.6892 0.6318 0.7801 0.8913 0.8521
1.7784 1.1614 0.6373 0.7139 0.6878 0.8534 0.9046 0.8891
1.3582 1.0730 0.6917 0.7307 0.7208 0.8891 0.9129 0.9069
1.1439 1.0164 0.7224 0.7427 0.7375 0.9093 0.9185 0.9174
1.0339 0.9826 0.7398 0.7499 0.7488 0.9186 0.9233 0.9227
0.9790 0.9648 0.7518 0.7552 0.7556 0.9248 0.9260 0.9256
0.9595 0.9596 0.7570 0.7583 0.7584 0.9275 0.9273 0.9273
0.9631 0.9638 0.7591 0.7586 0.7587 0.9275 0.9275 0.9275
"""


def imagenet_curves() -> dict[str, dict[str, Float[np.ndarray, "25"]]]:
    """Return metric ("loss" in nats, "top-1" and "top-5" as fractions) -> method -> curve."""
    columns = np.array([line.split() for line in _IMAGENET.split("\n") if line], float).T
    loss, top1, top5 = columns[:2], columns[2:5], columns[5:]
    methods = ("naive", "weight matching", "OT-Fusion")
    return {
        metric: dict(zip(methods, curves, strict=False))
        for metric, curves in (("loss", loss), ("top-1", top1), ("top-5", top5))
    }
