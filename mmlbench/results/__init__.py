"""Results: what runs leave, as frozen types that are parsed once; no torch."""
