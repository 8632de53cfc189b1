"""The tools around notebooks: runs, figures, widgets, the headless sequence. Nothing else needs it.

It needs the extra [lab]: Jupyter, widgets, papermill.
"""
