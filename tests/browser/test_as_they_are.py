"""Notebooks that are never cut down; how long a reader waits in the first, with nothing stored."""

import pytest

from browser.lab_page import AS_THEY_ARE, QUICKSTART, SIZES, record
from browser.test_sequence import turn_and_check, use

pytestmark = pytest.mark.skipif(SIZES == "quick", reason="no notebook is cut down")


def test_quickstart_with_nothing_stored(lab, page):
    page.open(f"{QUICKSTART}.ipynb")
    # Of the images at once; of what the networks have learned when both have.
    record("seconds_to_first_figures", page.seconds_to_figures(2))
    page.wait_for_end()
    _, panel = page.panels()
    slider = panel.slider("λ")
    page.start_stopwatch(panel.root)
    for _ in range(6):
        panel.changes_when(lambda: slider.press("ArrowRight"))
        page.page.wait_for_timeout(500)  # as somebody who looks at it
    record("dial_milliseconds", page.times())
    turn_and_check(QUICKSTART, lab, page)


@pytest.mark.parametrize("notebook", [name for name in AS_THEY_ARE if name != QUICKSTART])
def test_dials_of(notebook, lab, page):
    use(notebook, lab, page)
