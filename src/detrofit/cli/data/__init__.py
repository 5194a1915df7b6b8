"""Check a data set, or convert it to another form."""
