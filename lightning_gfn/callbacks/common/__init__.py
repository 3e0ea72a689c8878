"""Parts that several callbacks share: rows of results, files of a run, and costs."""
