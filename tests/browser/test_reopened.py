"""A notebook with dials that was saved, closed and opened again: nothing has run there."""

# Its kernel goes slowly, as on a busy machine.
CELL = """import atexit, time
import rebasin_lab as rl

atexit.register(time.sleep, 1)

def draw(x):
    numbers = {"objectives": {"one": [x, 1.0]}, "visits_per_sweep": 1}
    return rl.picture("objective", numbers, alt=f"x is {x}")

rl.dials(draw, x=[0, 1, 2, 3])"""


def test_it_draws_its_last_state_and_its_dials_move(lab, page):
    name = lab.write("reopened", CELL)
    page.open(name)
    page.run_all()
    (panel,) = page.panels()
    for stop in (1, 2, 3):
        panel.slider("x").press("ArrowRight")
        panel.wait_for_alt(f"^x is {stop}$")
    page.menu("File", "Save Notebook")
    page.page.locator(".jp-mod-dirty").wait_for(state="detached")
    page.open(name)
    page.page.locator(".rl-dials").wait_for()
    (panel,) = page.panels()
    panel.wait_for_alt("^x is 3$")
    panel.slider("x").press("Home")
    panel.wait_for_alt("^x is 0$")
    assert panel.slider("x").text == "0"
    assert page.page.locator(".jp-InputArea-prompt").first.inner_text() in ("[1]:", "[ ]:")
    page.assert_calm()
