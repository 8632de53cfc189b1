"""Claims about the onset of mode connectivity (section 5.2)."""

import functools

from rebasin_lab.paper.claim import Bound, Claim, everywhere, from_laptop

claim = functools.partial(Claim, notebook="06_onset")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig3-init",
        section="5.2, Fig. 3",
        statement="Networks that were not trained yet are not linearly connected.",
        paper='"challenging at initialization"',
        quantity="train loss barrier after weight matching, before any training (nats)",
        # What no longer counts as zero, as elsewhere.
        bounds=everywhere("at least", 0.02),
    ),
    claim(
        id="a1-early",
        section="A.1",
        statement="Matching fails early in training.",
        paper="named as a failure; 0.52 after epoch 1",
        quantity="train loss barrier after weight matching, after epoch 1 (nats)",
        # Far above what counts as zero, far below the paper's own first epoch.
        bounds=everywhere("at least", 0.1),
    ),
    claim(
        id="fig3-mnist-early",
        section="5.2, Fig. 3",
        statement="The barrier after the first epoch is many times that at the end of training.",
        paper="0.52 after epoch 1, about 0 at the end",
        quantity="train loss barrier after weight matching, after epoch 1 / at the end",
        bounds=everywhere("at least", 5.0),
    ),
    claim(
        id="fig3-mnist-late",
        section="5.2, Fig. 3",
        statement="By epoch 25, where the paper's plot ends, the barrier is gone.",
        paper="below 0.01 at epoch 25",
        quantity="train loss barrier after weight matching, last epoch kept up to 25 (nats)",
        # The resolution of the paper's plot, as for fig2-mnist-matched.
        bounds=everywhere("at most", 0.02),
    ),
    claim(
        id="fig3-gradual",
        section="5.2, Fig. 3",
        statement="Mode connectivity appears gradually: the barrier falls epoch by epoch.",
        paper="shown, one pair",
        quantity="p of Spearman's correlation of epoch and matched train barrier, below 0",
        # One-sided, over all pairs and all stored epochs but initialisation.
        bounds=everywhere("below", 0.05),
    ),
    claim(
        id="fig3-cifar",
        section="5.2, Fig. 3",
        statement="On CIFAR-10, too, the barrier falls in the course of training.",
        paper="about 0.31 after epoch 1, 0.015 at epoch 22",
        quantity="train loss barrier after weight matching, at the end / after epoch 1",
        # The direction is all that a fifth of the paper's steps can be asked for; with all of them,
        # half leaves room for the noise of the paper's curve.
        bounds={"laptop": Bound("below", 1.0), "paper": Bound("below", 0.5)},
    ),
    claim(
        id="fig3-cifar-noisier",
        section="5.2, Fig. 3",
        statement="On CIFAR-10 the barrier falls less smoothly than on MNIST.",
        paper="shown, one pair",
        quantity="rises of the matched train barrier, summed over epochs, MNIST - CIFAR-10 (nats)",
        bounds=from_laptop("below", 0.0),
    ),
    claim(
        id="fig3-benzing",
        section="5.2 (Benzing et al. 2022)",
        statement="The permutation found at the end of training suits its first epoch better.",
        paper="said of initialisation",
        quantity="train loss barrier after epoch 1, with the last permutation / with its own",
        bounds=everywhere("below", 1.0),
    ),
    claim(
        id="fig3-benzing-init",
        section="5.2 (Benzing et al. 2022)",
        statement="With that permutation, the mean of two untrained networks beats chance.",
        paper='"significantly above chance"',
        quantity="test accuracy half-way at initialisation, above the best control (points)",
        # Controls: chance, both ends, and half-way to B as it came, in random order, and in the
        # order matched at initialisation. Five standard errors of 10 % on 1,000 images.
        bounds=everywhere("at least", 5.0),
    ),
)
