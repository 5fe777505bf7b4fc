"""The printed tables, each declared in a file of its own: to add a column, add one `Column` there."""
