"""Files of rows: containers, messages, columns and a data set of one's own file."""
