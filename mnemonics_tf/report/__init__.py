"""Tables and summaries of runs for people to read, made from the files of the runs alone."""
