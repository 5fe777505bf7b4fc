"""Front ends: the code by which datasets turn raw files, or random numbers, into arrays; shared by all of them."""
