"""How a prepared cache is made: from official archives, in parallel, checked, to the same bytes each time."""
