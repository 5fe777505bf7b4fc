"""The machine and its Python: the device, builds of torch, paths that hide an environment."""
