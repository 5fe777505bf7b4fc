"""mmlbench: the engine of the benchmark."""
