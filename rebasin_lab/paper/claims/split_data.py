"""Claims about models trained on disjoint data (section 5.4)."""

import functools

from rebasin_lab.paper.claim import Claim, everywhere

# "Below" and "better" mean for every pair, half-way on its line, on test images.
claim = functools.partial(Claim, notebook="10_split_data")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig5-naive",
        section="5.4, Fig. 5",
        statement="Models trained on disjoint data are joined better after matching than before.",
        paper="shown",
        quantity="test loss half-way, weight matching / naive",
        bounds=everywhere("below", 1.0),
    ),
    claim(
        id="fig5-merged-below-both",
        section="5.4, Fig. 5",
        statement="The merged model has a lower test loss than either model it came from.",
        paper="shown",
        quantity="test loss, merged - the lower of A and B (nats)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig5-ensemble-better",
        section="5.4, Fig. 5",
        statement="The ensemble of A and B has a lower test loss than the merged model.",
        paper="shown",
        quantity="test loss, ensemble - merged (nats)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig5-full-data-better",
        section="5.4, Fig. 5",
        statement="A model trained on all the data has a lower test loss than the merged model.",
        paper="shown",
        quantity="test loss, trained on all data - merged (nats)",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig10-accuracy",
        section="5.4, Fig. 10",
        statement="In accuracy the merged model does not beat the better of A and B.",
        paper="lower loss, 'but not accuracy'",
        quantity="top-1 test accuracy, merged - the higher of A and B (points)",
        bounds=everywhere("at most", 0.0),
    ),
    claim(
        id="fig11-ece-below-both",
        section="5.4, Fig. 11",
        statement="The merged model is better calibrated than either model it came from.",
        paper="shown, without a number",
        quantity="calibration error (ECE), merged - the lower of A and B",
        bounds=everywhere("below", 0.0),
    ),
    claim(
        id="fig11-on-par-with-ensemble",
        section="5.4, Fig. 11",
        statement="The merged model is calibrated as well as the ensemble of A and B.",
        paper="on par, without a number",
        quantity="calibration error (ECE), |merged - ensemble|",
        # On 1,000 test images each ECE has a noise of about 0.005, a difference of 0.007: this is
        # three times as much. On 10,000 it is more than noise, but no more than a reader of the
        # paper's curves could see.
        bounds=everywhere("at most", 0.02),
    ),
)
