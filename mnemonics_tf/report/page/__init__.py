"""A page on a run, or on a set of runs, with figures and tables beside it; made from the runs' files alone.

What a run does not have is a sentence on the page, never an error. Jinja2 and Matplotlib are needed here and nowhere
else: `site.missing_packages` says whether they are there.
"""
