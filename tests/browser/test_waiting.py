"""How long a reader waits in `00_quickstart`, as it is and with nothing stored."""

import pytest

from browser.lab_page import QUICKSTART, SIZES, record
from browser.test_sequence import turn_and_check


@pytest.mark.skipif(SIZES == "quick", reason="its networks are stored")
def test_quickstart_as_it_is_with_nothing_stored(lab, page):
    page.open(f"{QUICKSTART}.ipynb")
    # Of the images at once; of what the networks have learned when both have.
    record("seconds_to_first_figures", page.seconds_to_figures(2))
    page.wait_for_end()
    (panel,) = page.panels()
    slider = panel.slider("λ: A to B")
    page.start_stopwatch(".rl-dials")
    for _ in range(6):
        panel.changes_when(lambda: slider.press("ArrowRight"))
        page.page.wait_for_timeout(500)  # as somebody who looks at it
    record("dial_milliseconds", page.times())
    turn_and_check(QUICKSTART, lab, page)
