"""The outputs: each file takes any table and returns it as CSV, Markdown, LaTeX, HTML, or for the terminal."""
