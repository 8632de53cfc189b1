"""Claims about model width (section 5.3)."""

import functools

from rebasin_lab.paper.claims.claim import Claim, at_paper, everywhere, from_laptop

claim = functools.partial(Claim, notebook="06_model_width")

CLAIMS: tuple[Claim, ...] = (
    claim(
        id="fig4-mlp-spearman",
        section="5.3, Fig. 4",
        statement="The wider two MLPs, the lower the barrier that matching leaves.",
        paper="shown for VGG16 and ResNet20",
        quantity="p of Spearman's correlation of width and matched train barrier, below 0",
        # One-sided, over all widths and pairs.
        bounds=everywhere("below", 0.05),
    ),
    claim(
        id="fig4-mlp-half",
        section="5.3, Fig. 4",
        statement="The widest MLPs have less than half the barrier of the narrowest.",
        paper="shown for VGG16 and ResNet20",
        quantity="mean matched train barrier, widest / narrowest",
        bounds=everywhere("below", 0.5),
    ),
    claim(
        id="fig4-mlp-ratio",
        section="5.3, Fig. 4 (our control)",
        statement="Width helps matching: the share of the naive barrier that is left falls, too.",
        paper="no naive barriers given",
        quantity="p of Spearman's correlation of width and matched / naive barrier, below 0",
        bounds=everywhere("below", 0.05),
    ),
    claim(
        id="a1-width",
        section="A.1",
        statement="Matching fails on networks of too little width.",
        paper="named as a failure",
        quantity="matched train barrier of the narrowest MLPs (nats)",
        # Five times what counts as zero.
        bounds=everywhere("at least", 0.1),
    ),
    *(
        each
        for kind, name in (("vgg", "VGG16"), ("resnet", "ResNet"))
        for each in (
            claim(
                id=f"fig4-{kind}-spearman",
                section="5.3, Fig. 4",
                statement=f"The wider two {name}s, the lower the barrier that matching leaves.",
                paper="shown, one pair per width",
                quantity="p of Spearman's correlation of width and matched train barrier, below 0",
                bounds=from_laptop("below", 0.05),
            ),
            claim(
                id=f"fig4-{kind}-half",
                section="5.3, Fig. 4",
                statement=f"The widest {name}s have less than half the barrier of the narrowest.",
                paper="shown, one pair per width",
                quantity="mean matched train barrier, widest / narrowest",
                bounds=from_laptop("below", 0.5),
            ),
            claim(
                id=f"fig4-{kind}-1x",
                section="5.3, Fig. 4",
                statement=f"At the published width, two {name}s are not linearly connected.",
                paper="shown, no number",
                quantity="matched train barrier at 1x (nats)",
                # Five times what counts as zero.
                bounds=at_paper("at least", 0.1),
            ),
            claim(
                id=f"fig4-{kind}-zero",
                section="5.3, Fig. 4",
                statement=f"The barrier between the widest {name}s is gone after matching.",
                paper="0",
                quantity="matched train barrier of the widest (nats)",
                # The resolution of the paper's plot, as for the MLP in Fig. 2.
                bounds=at_paper("at most", 0.02),
            ),
        )
    ),
    claim(
        id="fig4-resnet-middle",
        section="5.3, Fig. 4 (inset)",
        statement="At 32 times the width, the test loss does not rise in the middle of the line.",
        paper="shown",
        quantity="test loss after matching, middle minus mean of the ends, widest (nats)",
        bounds=at_paper("at most", 0.0),
    ),
    claim(
        id="section7-thin",
        section="7",
        statement="Thin networks need linear maps that are no permutations to be lined up.",
        paper="a hypothesis",
        quantity="-",
        bounds={},
        untestable="a hypothesis; nothing here looks for other linear maps",
    ),
)
