"""Tools around notebooks: session, figures, widgets, the headless sequence.

They need the extra [lab]: Jupyter, widgets, papermill.
"""
