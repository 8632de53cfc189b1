"""Claims about merging many models (A.10).

Table 3 holds five MLPs, trained on all of MNIST; Fig. 13 holds 32, each trained on a random half.
"""

import functools

from rebasin_lab.paper.claim import Claim, everywhere, from_laptop

claim = functools.partial(Claim, notebook="11_merging_many")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="a10-terminates",
        section="A.10",
        statement="MergeMany ends by itself.",
        paper="at most 100 rounds",
        quantity="rounds until one changes nothing, of at most 100 (more: not converged)",
        bounds=everywhere("below", 100.0),
    ),
    claim(
        id="table3-singles",
        section="A.10, Table 3",
        statement="Single MLPs trained on MNIST have a test loss of 0.1293 on average.",
        paper="0.1293, from 0.1108 to 0.1531",
        quantity="mean test loss of the singles, distance from 0.1293 (%)",
        # The paper's own five lie up to 18 % from their mean; a mean of five is steadier, but our
        # networks may differ in settings that the paper leaves out. `laptop` trains them as the
        # paper does, too.
        bounds=from_laptop("at most", 18.0),
    ),
    claim(
        id="table3-test-loss",
        section="A.10, Table 3",
        statement="MergeMany of five MLPs decreases the test loss by 43 %.",
        paper="43.8 % below the mean of the five, 34.4 % below the best",
        quantity="test loss of the merged model, below the mean of the singles (%)",
        # Their five differ by 38 % among themselves: the mean of five may be off by a seventh.
        bounds=everywhere("at least", 37.0),
    ),
    claim(
        id="table3-below-best",
        section="A.10, Table 3",
        statement="The merged model has a lower test loss than each of the five.",
        paper="0.0727 < 0.1108",
        quantity="test loss, merged - lowest single (nats)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="table3-below-0727",
        section="A.10, Table 3",
        statement="The merged model has a test loss of 0.0727 on MNIST.",
        paper="0.0727",
        quantity="test loss of the merged model (nats)",
        bounds=from_laptop("at most", 0.0727),
    ),
    claim(
        id="table3-accuracy-lower",
        section="A.10, Table 3",
        statement="The merged model has a lower test accuracy than each of the five.",
        paper="98.31 % < 98.54 %",
        quantity="test accuracy, merged - lowest single (points)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="table3-accuracy-drop",
        section="A.10, Table 3",
        statement="Merging costs little test accuracy.",
        paper="0.29 points: 98.60 % on average, 98.31 % merged",
        quantity="test accuracy, mean of the singles - merged (points)",
        # Some more than theirs; half a point is 50 of 10,000 images.
        bounds=everywhere("at most", 0.5),
    ),
    claim(
        id="table3-train-loss",
        section="A.10, Table 3",
        statement="The merged model has a higher train loss than each of the five.",
        paper="0.0141 > 0.0000",
        quantity="train loss, merged - highest single (nats)",
        bounds=everywhere("at least", 0.0),
    ),
    claim(
        id="table3-train-loss-small",
        section="A.10, Table 3",
        statement="The merged model fits the training images nearly as well as the five.",
        paper="0.0141 nats, 99.52 %",
        quantity="train loss of the merged model (nats)",
        # Twice the paper's, far below any test loss.
        bounds=everywhere("at most", 0.0282),
    ),
    claim(
        id="table3-naive-fails",
        section="A.10, Table 3 and Fig. 13",
        statement="The mean of the five as they came is far worse.",
        paper="shown for 32 models",
        quantity="test accuracy, mean of the singles - naive mean (points)",
        # What is asked of two models (fig9-mnist-naive).
        bounds=everywhere("at least", 5.0),
    ),
    claim(
        id="table3-calibration",
        section="A.10, Fig. 13",
        statement="Five merged models are better calibrated than each of the five.",
        paper="shown for 32 models",
        quantity="calibration error (ECE) on test images, merged - lowest single",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig13-calibration-singles",
        section="A.10, Fig. 13",
        statement="Models trained on random halves are worse calibrated than what they merge to.",
        paper="shown, without a number",
        quantity="calibration error (ECE) on test images, merged - lowest single",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig13-calibration-ensemble",
        section="A.10, Fig. 13",
        statement="The merged model is calibrated as well as the ensemble, or better.",
        paper="shown, without a number",
        quantity="calibration error (ECE) on test images, merged - ensemble",
        # As in fig11-on-par-with-ensemble.
        bounds=everywhere("at most", 0.02),
    ),
)
