"""The steps of ``init``: look at model and data, measure, choose sizes and method, write the file."""
